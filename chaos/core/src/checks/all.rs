//! Every checker there is.

use super::{bank, counter, fenced, lease, plane, recovery, revisions, set, watch};
use crate::{
    cycles,
    history::History,
    linear::{self, Limits},
    verdict::{Judgement, Verdict},
};

/// Every checker that found something to look at in the history.
pub fn check_all(history: &History) -> Vec<Verdict> {
    let verdicts = [
        linear::check(history, Limits::default()),
        cycles::check(history),
        set::check(history),
        counter::check(history),
        bank::check(history),
        fenced::locks(history),
        fenced::elections(history),
        lease::check(history),
        revisions::check(history),
        watch::check(history),
        recovery::check(history),
        plane::objects(history),
        plane::lives(history),
        plane::pods(history),
        plane::claims(history),
        plane::loops(history),
        plane::path(history),
    ];
    verdicts.into_iter().filter(|verdict| verdict.outcome != Judgement::Empty).collect()
}
