//! What the checkers' tests say.

use crate::{
    history::{History, Operation},
    made::history,
    verdict::{Judgement, Verdict},
};

#[track_caller]
pub(crate) fn holds(check: impl Fn(&History) -> Verdict, operations: Vec<Operation>) {
    let verdict = check(&history(operations));
    assert_eq!(verdict.outcome, Judgement::Holds, "{verdict}");
}

#[track_caller]
pub(crate) fn anomalies(check: impl Fn(&History) -> Verdict, operations: Vec<Operation>, expected: &[&str]) {
    let verdict = check(&history(operations));
    let found: Vec<_> = verdict.violations.iter().map(|violation| violation.anomaly.as_str()).collect();
    assert_eq!(found, expected, "{verdict}");
    assert!(verdict.violations.iter().all(|violation| !violation.timeline.bars.is_empty()), "{verdict}");
}
