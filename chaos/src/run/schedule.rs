//! When what is broken, for how long.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::faults::{Fault, LOST_NODE};

/// Before the first fault, so that there is something to compare with.
const LEAD_IN: Duration = Duration::from_secs(4);
/// Milliseconds that a fault lasts.
const HOLD_MILLIS: std::ops::Range<u64> = 2_000..6_000;
/// Milliseconds between a fault's end and the next one's begin.
const QUIET_MILLIS: std::ops::Range<u64> = 3_000..7_000;
/// A lost node is missed after this, and its pods are made up for: the reference cluster's grace period is 8 s.
const UNTIL_MISSED: Duration = Duration::from_secs(16);
/// After the last fault, so that its end is seen.
const LEAD_OUT: Duration = Duration::from_secs(6);

/// One fault's turn.
pub(super) struct Turn {
    /// What.
    pub(super) fault: &'static Fault,
    /// Counted from 1.
    pub(super) id: u64,
    /// Since the run's start.
    pub(super) begin: Duration,
    /// How long it lasts.
    pub(super) hold: Duration,
    /// For the choices of the fault itself.
    pub(super) rng: StdRng,
}

/// The turns that fit into `time`. The same seed and faults give the same turns.
pub(super) fn schedule(faults: &[&'static Fault], time: Duration, seed: u64) -> Vec<Turn> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut turns = Vec::new();
    let mut begin = LEAD_IN;
    let mut bag: Vec<&'static Fault> = Vec::new();
    while !faults.is_empty() {
        if bag.is_empty() {
            // Every fault has its turn before one comes again.
            bag.extend(faults);
        }
        let fault = bag.swap_remove(rng.random_range(0..bag.len()));
        let mut hold = Duration::from_millis(rng.random_range(HOLD_MILLIS));
        if fault.name == LOST_NODE {
            hold += UNTIL_MISSED;
        }
        if begin + hold + LEAD_OUT > time {
            break;
        }
        let id = turns.len() as u64 + 1;
        turns.push(Turn { fault, id, begin, hold, rng: StdRng::seed_from_u64(seed.wrapping_add(id)) });
        begin += hold + Duration::from_millis(rng.random_range(QUIET_MILLIS));
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FAULTS;

    /// Time for every fault.
    const LONG: Duration = Duration::from_secs(900);

    fn names(seed: u64) -> Vec<(&'static str, Duration)> {
        let faults: Vec<_> = FAULTS.iter().collect();
        schedule(&faults, LONG, seed).iter().map(|turn| (turn.fault.name, turn.begin)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again() {
        assert_eq!(names(5), names(5));
        assert_ne!(names(5), names(6));
    }

    #[test]
    fn every_fault_has_its_turn_and_they_end_in_time() {
        let turns = names(5);
        assert!(FAULTS.iter().all(|fault| turns.iter().any(|(name, _)| *name == fault.name)));
        assert!(turns.windows(2).all(|pair| pair[0].1 + Duration::from_secs(5) <= pair[1].1));
        assert!(schedule(&[], LONG, 1).is_empty());
    }
}
