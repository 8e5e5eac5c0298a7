//! A key's operations, reduced to what a register needs.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Action, History, Operation, Outcome};

/// An operation on one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Nanoseconds.
    pub(super) call: u64,
    /// Nanoseconds; `u64::MAX` for an unknown outcome.
    pub(super) returned: u64,
    /// What it did.
    pub(super) kind: Kind,
    /// Index of the operation in the history.
    pub(super) source: usize,
}

/// What an operation did to its register; values are interned, 0 is "no value".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The value was this.
    Is(u32),
    /// The value was not this.
    IsNot(u32),
    /// The value became this.
    Set(u32),
    /// The value was the first and became the second.
    Swap(u32, u32),
}

impl Kind {
    /// The value after the operation, if it can happen at `value`.
    pub(super) fn apply(self, value: u32) -> Option<u32> {
        match self {
            Self::Is(expected) => (value == expected).then_some(value),
            Self::IsNot(other) => (value != other).then_some(value),
            Self::Set(next) => Some(next),
            Self::Swap(from, to) => (value == from).then_some(to),
        }
    }

    /// Whether it leaves the value as it is.
    pub(super) fn is_pure(self) -> bool {
        matches!(self, Self::Is(_) | Self::IsNot(_))
    }

    /// The value it leaves behind, if it changes it.
    pub(super) fn produces(self) -> Option<u32> {
        match self {
            Self::Set(value) | Self::Swap(_, value) => Some(value),
            Self::Is(_) | Self::IsNot(_) => None,
        }
    }

    /// The value it must find.
    pub(super) fn observes(self) -> Option<u32> {
        match self {
            Self::Is(value) | Self::Swap(value, _) => Some(value),
            Self::IsNot(_) | Self::Set(_) => None,
        }
    }
}

impl Step {
    pub(super) fn is_unknown(&self) -> bool {
        self.returned == u64::MAX
    }
}

/// Every key's operations, in order of call.
pub(super) fn partition(history: &History) -> BTreeMap<&str, Vec<Step>> {
    let mut keys: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    let mut names: HashMap<Option<i64>, u32> = HashMap::from([(None, 0)]);
    for (source, operation) in history.operations.iter().enumerate() {
        let Some(key) = register(&operation.action) else { continue };
        let mut intern = |value: Option<i64>| {
            let next = u32::try_from(names.len()).expect("fewer than 2^32 operations fit in memory");
            *names.entry(value).or_insert(next)
        };
        let steps = keys.entry(key).or_default();
        if let Some(kind) = kind(operation, &mut intern) {
            steps.push(Step { call: operation.invoked, returned: operation.effective_until(), kind, source });
        }
    }
    keys
}

fn register(action: &Action) -> Option<&str> {
    match action {
        Action::Read { key } | Action::Write { key, .. } | Action::Delete { key } | Action::Cas { key, .. } => {
            Some(key)
        }
        _ => None,
    }
}

/// `None` for an operation that constrains nobody.
fn kind(operation: &Operation, intern: &mut impl FnMut(Option<i64>) -> u32) -> Option<Kind> {
    let answer = match &operation.outcome {
        Outcome::Ok(answer) => Some(answer),
        Outcome::Unknown(_) => None,
        Outcome::Failed(_) => return None,
    };
    match (&operation.action, answer) {
        (Action::Read { .. }, Some(answer)) => Some(Kind::Is(intern(answer.value))),
        (Action::Write { value, .. }, _) => Some(Kind::Set(intern(Some(*value)))),
        (Action::Delete { .. }, _) => Some(Kind::Set(0)),
        (Action::Cas { from, to, .. }, answer) => match answer {
            Some(answer) if answer.swapped == Some(false) => Some(match (answer.value, answer.present) {
                (None, Some(false)) => Kind::Is(0),
                (None, _) => Kind::IsNot(intern(*from)),
                (found, _) => Kind::Is(intern(found)),
            }),
            _ => Some(Kind::Swap(intern(*from), intern(Some(*to)))),
        },
        _ => None,
    }
}

/// The same constraints in a form that is faster to search: unknown operations that nobody saw are gone, and whatever
/// somebody saw returns no later than the first who saw it.
pub(super) fn tighten(steps: &[Step]) -> Vec<Step> {
    let mut producers: HashMap<u32, usize> = HashMap::from([(0, 1)]);
    let mut first_seen: HashMap<u32, u64> = HashMap::new();
    // Until then a comparison may have failed because of what an unknown operation wrote.
    let mut blind_until = 0;
    for step in steps {
        if let Some(value) = step.kind.produces() {
            *producers.entry(value).or_default() += 1;
        }
        if let Some(value) = step.kind.observes() {
            let seen = first_seen.entry(value).or_insert(u64::MAX);
            // An unknown swap may see a value, but proves nothing.
            *seen = (*seen).min(step.returned);
        }
        if matches!(step.kind, Kind::IsNot(_)) {
            blind_until = blind_until.max(step.returned);
        }
    }
    let tightened = steps.iter().filter_map(|step| {
        let mut step = *step;
        if let Some(value) = step.kind.produces() {
            let seen = first_seen.get(&value).copied();
            if seen.is_none() && step.is_unknown() && blind_until < step.call {
                return None;
            }
            if let Some(seen) = seen.filter(|seen| producers[&value] == 1 && *seen > step.call) {
                step.returned = step.returned.min(seen);
            }
        } else if step.is_unknown() {
            return None;
        }
        Some(step)
    });
    tightened.collect()
}
