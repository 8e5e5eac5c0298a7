//! Makes a failing sequence short, as proptest does: parts are left out for as long as it still fails.

use tokio::time::{Duration, Instant};

use crate::step::Turn;
use crate::{Difference, Pair, watches};

/// Time for making a sequence shorter.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The shortest sequence found that fails, and how it does.
pub async fn shrink(pair: &Pair, mut turns: Vec<Turn>, mut difference: Difference) -> (Vec<Turn>, Difference) {
    watches::be_brief();
    let deadline = Instant::now() + TIME_MAX;
    turns.truncate(difference.turns);
    let mut part = turns.len().div_ceil(2);
    loop {
        let mut start = 0;
        let before = turns.len();
        while start < turns.len() && Instant::now() < deadline {
            let end = (start + part).min(turns.len());
            let rest = [&turns[..start], &turns[end..]].concat();
            match pair.compare(&rest).await {
                Some(found) => {
                    (turns, difference) = (rest, found);
                    turns.truncate(difference.turns);
                }
                None => start = end,
            }
        }
        if Instant::now() >= deadline || (part == 1 && turns.len() == before) {
            return (turns, difference);
        }
        part = part.div_ceil(2);
    }
}
