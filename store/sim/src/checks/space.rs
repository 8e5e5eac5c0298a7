//! Disks that are full: writes are refused only while they are, and reads go on.

use crate::{
    checks::Violation,
    client::NO_SPACE,
    history::{Answer, Ask, Operation},
};

/// A member goes on so soon after space has returned: it may be stopped for a while, and then it looks.
const NOTICED_MILLIS_MAX: u64 = 10_000;

/// A time without space for a member's keyspace.
#[derive(Debug, Clone, Copy)]
pub struct Shortage {
    /// Whose.
    pub machine: usize,
    /// Since when, in simulated milliseconds.
    pub began: u64,
    /// Until when, if it has ended.
    pub ended: Option<u64>,
}

/// What clients saw of full disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Writes that were refused for want of space.
    pub refused: u64,
    /// Reads that members answered from what they had while there was none.
    pub read: u64,
}

impl Shortage {
    /// Whether all of an operation fell into it.
    fn covers(&self, operation: &Operation) -> bool {
        operation.member == self.machine
            && operation.began_millis > self.began
            && self.ended.is_none_or(|ended| operation.ended_millis <= ended)
    }

    /// Whether it explains that a member had no space for an operation.
    fn explains(&self, operation: &Operation) -> bool {
        operation.member == self.machine
            && operation.ended_millis >= self.began
            && self.ended.is_none_or(|ended| operation.began_millis <= ended + NOTICED_MILLIS_MAX)
    }
}

/// What was seen.
#[must_use]
pub fn seen(operations: &[Operation], shortages: &[Shortage]) -> Seen {
    let is_read = |operation: &&Operation| {
        matches!(operation.ask, Ask::Range { serializable: true, .. })
            && matches!(operation.answer, Answer::Range { .. })
            && shortages.iter().any(|shortage| shortage.covers(operation))
    };
    Seen {
        refused: operations.iter().filter(|operation| is_refused(operation)).count() as u64,
        read: operations.iter().filter(is_read).count() as u64,
    }
}

fn is_refused(operation: &Operation) -> bool {
    matches!(&operation.answer, Answer::Refused(text) if text.ends_with(NO_SPACE))
}

/// Whoever was refused for want of space asked a member that had none.
///
/// # Errors
/// Names the operation that was refused without a reason.
pub fn check(operations: &[Operation], shortages: &[Shortage]) -> Result<(), Violation> {
    let unexplained = operations
        .iter()
        .filter(|operation| is_refused(operation))
        .find(|operation| !shortages.iter().any(|shortage| shortage.explains(operation)));
    match unexplained {
        Some(operation) => Err(Violation::new("NOSPACE ends when space returns", format!("{operation:?}"))),
        None => Ok(()),
    }
}
