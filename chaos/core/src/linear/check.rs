//! The verdict on all keys, and what is shown of a key that fails.

use super::{
    register::{Step, partition, tighten},
    search::{Found, search},
    shrink::shrink,
};
use crate::{
    history::History,
    verdict::{Judgement, Timeline, Verdict, Violation},
};

/// Bounds of the search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Places the search may visit for one key before it gives up undecided; each costs some 100 bytes.
    pub states_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states_max: 5_000_000 }
    }
}

/// Whether every key's reads, writes, deletions and compare-and-sets have an order that respects real time and explains
/// what each of them was told. Keys begin without a value.
pub fn check(history: &History, limits: Limits) -> Verdict {
    let keys = partition(history);
    let operations: usize = keys.values().map(Vec::len).sum();
    let (mut violations, mut undecided) = (Vec::new(), Vec::new());
    for (key, steps) in &keys {
        match search(&tighten(steps), limits.states_max) {
            Found::Order(_) => {}
            Found::Stuck(stuck) => violations.push(explain(history, key, steps, stuck.time, limits)),
            Found::GaveUp => undecided.push(*key),
        }
    }
    let mut summary = format!("{operations} operations on {} keys", keys.len());
    if !undecided.is_empty() {
        summary += &format!("; gave up on {} after {} places each", undecided.join(", "), limits.states_max);
    }
    let mut verdict = Verdict::new("linearizable", operations, summary, violations);
    if verdict.passes() && !undecided.is_empty() {
        verdict.outcome = Judgement::Undecided;
    }
    verdict
}

fn explain(history: &History, key: &str, steps: &[Step], time: u64, limits: Limits) -> Violation {
    let (few, stuck) = shrink(steps, time, limits.states_max);
    let operation = |step: &Step| &history.operations[step.source];
    let mut explanation = format!("key {key}: {} of its {} operations already have no order", few.len(), steps.len());
    let mut guilty = None;
    if let Some(stuck) = stuck {
        let placed: Vec<_> = stuck.order.iter().map(|index| operation(&few[*index as usize]).describe()).collect();
        let blocked = &few[stuck.step as usize];
        guilty = Some(blocked.source);
        explanation += &match placed.is_empty() {
            true => format!("; nothing before it explains \"{}\"", operation(blocked).describe()),
            false => format!("; after [{}] nothing explains \"{}\"", placed.join(", "), operation(blocked).describe()),
        };
    }
    let bars = few.iter().map(|step| operation(step).bar(guilty == Some(step.source)));
    Violation { anomaly: "not-linearizable".to_owned(), explanation, timeline: Timeline::new(bars.collect()) }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
