//! The control plane: what its clients were told, what its watchers saw, and what was there in the end.

mod claims;
mod lives;
mod loops;
mod objects;
mod observed;
mod path;
mod pods;

pub use claims::claims;
pub use lives::lives;
pub use loops::loops;
pub use objects::objects;
pub use path::path;
pub use pods::pods;

use crate::{
    history::Operation,
    verdict::{Bar, Timeline, Violation},
};

/// The source of the final content that all others must equal.
const STORE: &str = "store";

/// A violation that operations and what watchers saw show together; the last of them is the one to blame.
fn violation(anomaly: &str, explanation: String, operations: &[&Operation], mut seen: Vec<Bar>) -> Violation {
    if let Some(last) = seen.last_mut() {
        last.guilty = true;
    }
    let last = operations.len();
    let guilty = |at: usize| seen.is_empty() && at + 1 == last;
    let mut bars: Vec<Bar> = operations.iter().enumerate().map(|(at, operation)| operation.bar(guilty(at))).collect();
    bars.extend(seen);
    Violation { anomaly: anomaly.to_owned(), explanation, timeline: Timeline::new(bars) }
}
