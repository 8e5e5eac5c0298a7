//! Counters: every read lies between what certainly and what possibly was added.

use std::collections::BTreeMap;

use crate::{
    history::{Action, History, Operation},
    verdict::{Timeline, Verdict, Violation},
};

/// Increments that a violation shows, the latest before the read.
const SHOWN_MAX: usize = 8;

#[derive(Default)]
struct Counter<'history> {
    increments: Vec<(&'history Operation, i64)>,
    reads: Vec<(&'history Operation, i64)>,
}

/// Whether every read of a counter has a value that some choice of the increments under way and unknown explains.
pub fn check(history: &History) -> Verdict {
    let mut counters: BTreeMap<&str, Counter<'_>> = BTreeMap::new();
    for operation in &history.operations {
        match &operation.action {
            Action::Increment { counter, by } if !operation.failed() => {
                counters.entry(counter).or_default().increments.push((operation, *by));
            }
            Action::ReadCounter { counter } => {
                let value = operation.answer().map(|answer| answer.value.unwrap_or(0));
                counters.entry(counter).or_default().reads.extend(value.map(|value| (operation, value)));
            }
            _ => {}
        }
    }
    let violations: Vec<_> = counters.iter().flat_map(|(name, counter)| judge(name, counter)).collect();
    let increments: usize = counters.values().map(|counter| counter.increments.len()).sum();
    let reads: usize = counters.values().map(|counter| counter.reads.len()).sum();
    Verdict::new("counter", increments + reads, format!("{increments} increments, {reads} reads"), violations)
}

/// Sums of increments that are done at a time: sorted times, and the sum up to each.
struct Sums(Vec<(u64, i64)>);

impl Sums {
    fn new(mut items: Vec<(u64, i64)>) -> Self {
        items.sort_unstable();
        let mut sum = 0;
        items.iter_mut().for_each(|(_, by)| {
            sum += *by;
            *by = sum;
        });
        Self(items)
    }

    /// Of everything before `time`.
    fn before(&self, time: u64) -> i64 {
        let count = self.0.partition_point(|(at, _)| *at < time);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

fn judge(name: &str, counter: &Counter<'_>) -> Vec<Violation> {
    let sums = |positive: bool, time: fn(&Operation) -> u64| {
        let chosen = counter.increments.iter().filter(|(_, by)| (*by > 0) == positive);
        Sums::new(chosen.map(|(operation, by)| (time(operation), *by)).collect())
    };
    let done = (sums(true, Operation::effective_until), sums(false, Operation::effective_until));
    let begun = (sums(true, |operation| operation.invoked), sums(false, |operation| operation.invoked));
    let wrong = counter.reads.iter().filter_map(|(read, value)| {
        let end = read.effective_until().saturating_add(1);
        let low = done.0.before(read.invoked) + begun.1.before(end);
        let high = begun.0.before(end) + done.1.before(read.invoked);
        if (low..=high).contains(value) {
            return None;
        }
        let anomaly = if *value < low { "lost-increment" } else { "invented-increment" };
        let explanation = format!("{name} read as {value}, but it can only lie between {low} and {high}");
        let before = counter.increments.iter().rev().filter(|(operation, _)| operation.invoked < read.invoked);
        let mut bars: Vec<_> = before.take(SHOWN_MAX).map(|(operation, _)| operation.bar(false)).collect();
        bars.push(read.bar(true));
        Some(Violation { anomaly: anomaly.to_owned(), explanation, timeline: Timeline::new(bars) })
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::{failed, ok, unknown},
    };

    fn action(by: i64) -> Action {
        Action::Increment { counter: "c".into(), by }
    }

    fn add(begin: u64, end: u64, by: i64) -> Operation {
        ok(0, begin, end, action(by), Answer::default())
    }

    fn read(begin: u64, end: u64, value: i64) -> Operation {
        let answer = Answer { value: Some(value), ..Answer::default() };
        ok(1, begin, end, Action::ReadCounter { counter: "c".into() }, answer)
    }

    #[test]
    fn a_read_may_or_may_not_see_what_is_under_way() {
        let both = || vec![add(0, 1, 5), add(2, 9, 3), add(2, 9, -1), unknown(2, 2, 3, action(10))];
        for value in [4, 5, 7, 8, 15, 18] {
            holds(check, [both(), vec![read(4, 5, value)]].concat());
        }
        anomalies(check, [both(), vec![read(4, 5, 3)]].concat(), &["lost-increment"]);
        anomalies(check, [both(), vec![read(4, 5, 19)]].concat(), &["invented-increment"]);
    }

    #[test]
    fn failed_increments_do_not_count() {
        anomalies(check, vec![failed(0, 0, 1, action(2)), read(2, 3, 2)], &["invented-increment"]);
    }
}
