//! From a history without an order to the few operations that already have none.

use std::collections::HashSet;

use super::{
    register::{Kind, Step, tighten},
    search::{Found, Stuck, search},
};

/// Searches that one shrinking may make.
const SEARCHES_MAX: usize = 2_000;

/// A set of steps that has no order, from which nothing can be left out, and where the search gets stuck in it. `steps` has
/// no order, and is known to have none up to `time`.
pub(super) fn shrink(steps: &[Step], time: u64, states_max: usize) -> (Vec<Step>, Option<Stuck>) {
    let mut kept = cut(steps, time);
    let mut searches = 0;
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut removed_any = false;
        let mut at = 0;
        while at < kept.len() && searches < SEARCHES_MAX {
            searches += 1;
            let smaller = without(&kept, at..(at + chunk).min(kept.len()));
            if smaller.len() < kept.len() && matches!(order_of(&smaller, states_max), Found::Stuck(_)) {
                kept = smaller;
                removed_any = true;
            } else {
                at += chunk;
            }
        }
        match (chunk, removed_any) {
            (1, false) => break,
            (1, true) => {}
            _ => chunk = chunk.div_ceil(2),
        }
        if searches >= SEARCHES_MAX {
            break;
        }
    }
    // The explanation walks the very steps that are shown, not their tightened form.
    let shown: Vec<Step> = kept.iter().filter(|step| !(step.kind.is_pure() && step.is_unknown())).copied().collect();
    let stuck = match search(&shown, states_max) {
        Found::Stuck(stuck) => Some(stuck),
        Found::Order(_) | Found::GaveUp => None,
    };
    (shown, stuck)
}

fn order_of(steps: &[Step], states_max: usize) -> Found {
    search(&tighten(steps), states_max)
}

/// What was known at `time`.
fn cut(steps: &[Step], time: u64) -> Vec<Step> {
    let known = steps.iter().filter(|step| step.call <= time);
    known.map(|step| Step { returned: if step.returned <= time { step.returned } else { u64::MAX }, ..*step }).collect()
}

/// Leaves steps out, and with them whatever needs their values: what has an order keeps it, so that a rest without one
/// proves that the whole has none. Where comparisons failed without telling what they saw, only what changes nothing
/// is left out.
fn without(steps: &[Step], range: std::ops::Range<usize>) -> Vec<Step> {
    let blind = steps.iter().any(|step| matches!(step.kind, Kind::IsNot(_)));
    let mut gone: HashSet<u32> = HashSet::new();
    let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        if range.contains(&index) && (step.kind.is_pure() || !blind) {
            gone.extend(step.kind.produces());
        } else {
            kept.push(*step);
        }
    }
    loop {
        let before = gone.len();
        let length = kept.len();
        kept.retain(|step| {
            let needs = step.kind.observes().is_some_and(|value| gone.contains(&value));
            if needs {
                gone.extend(step.kind.produces());
            }
            !needs
        });
        if gone.len() == before && kept.len() == length {
            return kept;
        }
    }
}
