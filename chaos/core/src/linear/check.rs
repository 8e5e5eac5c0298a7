//! The verdict on all keys, and what is shown of a key that fails.

use super::{
    register::{Step, partition, tighten},
    search::{Found, search},
    shrink::shrink,
};
use crate::{
    history::{Action, History, Operation, Outcome},
    verdict::{Bar, Judgement, Timeline, Verdict, Violation},
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
        let placed: Vec<_> = stuck.order.iter().map(|index| describe(operation(&few[*index as usize]))).collect();
        let blocked = &few[stuck.step as usize];
        guilty = Some(blocked.source);
        explanation += &match placed.is_empty() {
            true => format!("; nothing before it explains \"{}\"", describe(operation(blocked))),
            false => format!("; after [{}] nothing explains \"{}\"", placed.join(", "), describe(operation(blocked))),
        };
    }
    let bars = few.iter().map(|step| {
        let operation = operation(step);
        Bar {
            row: format!("p{}", operation.process),
            begin: operation.invoked,
            end: matches!(operation.outcome, Outcome::Ok(_)).then_some(operation.completed).flatten(),
            label: describe(operation),
            guilty: guilty == Some(step.source),
        }
    });
    Violation { anomaly: "not-linearizable".to_owned(), explanation, timeline: Timeline::new(bars.collect()) }
}

/// An operation on a register and what came of it.
fn describe(operation: &Operation) -> String {
    let show = |value: Option<i64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let asked = match &operation.action {
        Action::Read { .. } => "read".to_owned(),
        Action::Write { value, .. } => format!("write {value}"),
        Action::Delete { .. } => "delete".to_owned(),
        Action::Cas { from, to, .. } => format!("cas {} -> {to}", show(*from)),
        other => format!("{other:?}"),
    };
    match (&operation.action, &operation.outcome) {
        (Action::Read { .. }, Outcome::Ok(answer)) => format!("{asked} {}", show(answer.value)),
        (Action::Cas { .. }, Outcome::Ok(answer)) if answer.swapped == Some(false) => match answer.value {
            Some(found) => format!("{asked} refused, found {found}"),
            None => format!("{asked} refused"),
        },
        (_, Outcome::Unknown(_)) => format!("{asked} ?"),
        _ => asked,
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
