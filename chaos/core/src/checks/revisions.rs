//! Revisions: every write has its own, they rise in real time, and reads fit the revision they were answered at.

use std::collections::{BTreeMap, HashMap};

use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether acknowledged revisions are unique among writes, whether every operation that began after another had ended has a
/// revision above it (a write) or not below it (a read), and whether reads of registers fit the writes around their revision.
pub fn check(history: &History) -> Verdict {
    let mut known: Vec<(&Operation, u64, bool)> = Vec::new();
    for operation in &history.operations {
        let Some(answer) = operation.answer() else { continue };
        // An object's own revision, which may be old, for a read or for an update that changed nothing.
        let of_object = matches!(operation.action, Action::Get { .. } | Action::Update { .. } | Action::LetGo { .. });
        let revision = answer.revision.filter(|_| !of_object && !matches!(operation.action, Action::Txn { .. }));
        known.extend(revision.map(|revision| (operation, revision, advances(operation))));
    }
    let mut violations = unique(&known);
    violations.extend(real_time(&known));
    violations.extend(reads_at_revision(&known));
    let writes = known.iter().filter(|(_, _, write)| *write).count();
    let summary = format!("{writes} writes and {} reads with revisions", known.len() - writes);
    Verdict::new("revisions", known.len(), summary, violations)
}

/// Whether the operation, acknowledged, certainly made a revision of its own. A deletion of nothing makes none.
fn advances(operation: &Operation) -> bool {
    let swapped = operation.answer().is_some_and(|answer| answer.swapped != Some(false));
    match operation.action {
        Action::Write { .. } | Action::Guarded { .. } | Action::Proclaim { .. } | Action::Attach { .. } => true,
        Action::Create { .. } | Action::Add { .. } | Action::Increment { .. } | Action::Transfer { .. } => true,
        Action::Cas { .. } => swapped,
        _ => false,
    }
}

fn unique(known: &[(&Operation, u64, bool)]) -> Vec<Violation> {
    let mut seen: HashMap<u64, &Operation> = HashMap::new();
    let writes = known.iter().filter(|(_, _, write)| *write);
    let twice = writes.filter_map(|(operation, revision, _)| {
        let other = seen.insert(*revision, operation)?;
        let explanation = format!("two writes were acknowledged with revision {revision}");
        Some(Violation::of("revision-twice", explanation, &[other, operation]))
    });
    twice.collect()
}

fn real_time(known: &[(&Operation, u64, bool)]) -> Vec<Violation> {
    let mut ended: Vec<(u64, u64, &Operation)> =
        known.iter().map(|(operation, revision, _)| (operation.effective_until(), *revision, *operation)).collect();
    ended.sort_by_key(|(end, revision, _)| (*end, *revision));
    // The highest revision up to each end.
    for index in 1..ended.len() {
        if ended[index - 1].1 > ended[index].1 {
            (ended[index].1, ended[index].2) = (ended[index - 1].1, ended[index - 1].2);
        }
    }
    let wrong = known.iter().filter_map(|(operation, revision, write)| {
        let before = ended.partition_point(|(end, ..)| *end < operation.invoked).checked_sub(1)?;
        let (_, highest, by) = ended[before];
        let fits = if *write { *revision > highest } else { *revision >= highest };
        let what = if *write { "written" } else { "answered" };
        let explanation = format!("{what} at revision {revision} after {highest} had been told to somebody");
        (!fits).then(|| Violation::of("revision-falls", explanation, &[by, operation]))
    });
    wrong.collect()
}

/// A register's acknowledged changes in order of revision: revision, value, by whom.
type Changes<'history> = BTreeMap<u64, (Option<i64>, &'history Operation)>;

fn reads_at_revision(known: &[(&Operation, u64, bool)]) -> Vec<Violation> {
    let mut registers: HashMap<&str, Changes<'_>> = HashMap::new();
    for (operation, revision, _) in known {
        let change = match &operation.action {
            Action::Write { key, value } => Some((key, Some(*value))),
            Action::Cas { key, to, .. } if advances(operation) => Some((key, Some(*to))),
            Action::Delete { key } => Some((key, None)),
            _ => None,
        };
        if let Some((key, value)) = change {
            registers.entry(key).or_default().insert(*revision, (value, operation));
        }
    }
    let written: HashMap<(&str, i64), u64> = registers
        .iter()
        .flat_map(|(key, changes)| changes.iter().map(move |(at, (value, _))| (*key, *value, *at)))
        .filter_map(|(key, value, at)| Some(((key, value?), at)))
        .collect();
    let mut found = Vec::new();
    for (operation, revision, _) in known {
        let Action::Read { key } = &operation.action else { continue };
        let Some(changes) = registers.get(key.as_str()) else { continue };
        let value = operation.answer().and_then(|answer| answer.value);
        let Some((at, (last, by))) = changes.range(..=*revision).next_back() else { continue };
        // A value without a known revision is an unknown write's, and may have landed anywhere.
        let origin = value.and_then(|value| written.get(&(key.as_str(), value)));
        let stale = *last != value && origin.is_some_and(|origin| origin < at);
        let early = origin.is_some_and(|origin| origin > revision);
        if stale || early {
            let explanation = format!("the read of {key} at revision {revision} does not fit the write at {at}");
            found.push(Violation::of("read-off-revision", explanation, &[by, operation]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::ok,
    };

    fn write(begin: u64, end: u64, value: i64, revision: u64) -> Operation {
        let answer = Answer { revision: Some(revision), ..Answer::default() };
        ok(0, begin, end, Action::Write { key: "x".into(), value }, answer)
    }

    fn read(begin: u64, end: u64, value: Option<i64>, revision: u64) -> Operation {
        let answer = Answer { value, revision: Some(revision), ..Answer::default() };
        ok(1, begin, end, Action::Read { key: "x".into() }, answer)
    }

    #[test]
    fn revisions_rise_and_are_used_once() {
        holds(check, vec![write(0, 1, 1, 2), write(2, 9, 2, 4), write(2, 9, 3, 3), read(10, 11, Some(2), 4)]);
        anomalies(check, vec![write(0, 1, 1, 3), write(2, 3, 2, 2)], &["revision-falls"]);
        anomalies(check, vec![write(0, 9, 1, 3), write(0, 9, 2, 3)], &["revision-twice"]);
    }

    #[test]
    fn a_read_answers_at_no_older_revision_than_was_told() {
        holds(check, vec![write(0, 1, 1, 3), read(2, 3, Some(1), 3)]);
        anomalies(check, vec![write(0, 1, 1, 3), read(2, 3, None, 2)], &["revision-falls"]);
    }

    #[test]
    fn a_read_fits_its_revision() {
        let writes = || vec![write(0, 99, 1, 2), write(0, 99, 2, 3)];
        holds(
            check,
            [writes(), vec![read(0, 99, Some(1), 2), read(0, 99, Some(2), 7), read(0, 99, Some(9), 8)]].concat(),
        );
        anomalies(check, [writes(), vec![read(0, 99, Some(1), 7)]].concat(), &["read-off-revision"]);
        anomalies(check, [writes(), vec![read(0, 99, Some(2), 2)]].concat(), &["read-off-revision"]);
    }
}
