//! Linearizability of all operations, in linear time.
//!
//! The store numbers its states: a write answers with its revision, a read with the revision it shows. So the order of the
//! operations is known, and needs only to be compared with time: what began after something had ended must not come before
//! it. That every answer is what the model says at its revision makes it linearizability of the whole keyspace, not of
//! single keys only.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use xebec_proto::mvccpb::KeyValue as Seen;
use xebec_store_core::{EventKind, KeyRange, KeyValue, ReadView, Revision};

use crate::{
    checks::{Truth, Violation},
    history::{Answer, Ask, Operation},
};

const LINEARIZABLE: &str = "linearizability";

/// Checks all operations.
///
/// # Errors
/// The first violation.
pub fn check(truth: &Truth, operations: &[Operation]) -> Result<(), Violation> {
    for operation in operations {
        answer_is_true(truth, operation)?;
    }
    order_is_real(operations)?;
    serializable_is_monotonic(operations)?;
    effects_are_explained(truth, operations)
}

fn same(seen: &Seen, kv: &KeyValue) -> bool {
    seen.key == kv.key
        && seen.value == kv.value
        && seen.create_revision == kv.create_revision.0
        && seen.mod_revision == kv.mod_revision.0
        && seen.version == kv.version
        && seen.lease == kv.lease.0
}

fn wrong(operation: &Operation, why: impl std::fmt::Display) -> Violation {
    Violation::new(LINEARIZABLE, format!("{why}: {operation:?}"))
}

fn range(truth: &Truth, key: &str, range_end: &str, at: i64) -> Result<Vec<KeyValue>, Violation> {
    let range = KeyRange::from_wire(key.to_owned().into(), range_end.to_owned().into());
    let mut found = Vec::new();
    truth
        .store
        .scan(&range, Revision(at), &mut |kv| {
            found.push(kv);
            ControlFlow::Continue(())
        })
        .map_err(|error| Violation::new("the model can be read", error.to_string()))?;
    Ok(found)
}

fn all_same(seen: &[Seen], kvs: &[KeyValue]) -> bool {
    seen.len() == kvs.len() && seen.iter().zip(kvs).all(|(seen, kv)| same(seen, kv))
}

/// The puts of a revision as key and value.
fn puts(truth: &Truth, revision: i64) -> Vec<(&[u8], &[u8])> {
    let events = truth.changes.get(&revision).map(|change| change.events.as_slice()).unwrap_or_default();
    let puts = events.iter().filter(|event| event.kind == EventKind::Put);
    puts.map(|event| (event.kv.key.as_ref(), event.kv.value.as_ref())).collect()
}

/// Whether the answer is what the committed log says at the answer's revision.
fn answer_is_true(truth: &Truth, operation: &Operation) -> Result<(), Violation> {
    match (&operation.ask, &operation.answer) {
        (Ask::Put { key, value, .. }, Answer::Put { revision, prev }) => {
            if puts(truth, *revision) != [(key.as_bytes(), value.as_bytes())] {
                return Err(wrong(operation, "an acknowledged put is not in the log"));
            }
            let before = truth.get(key.as_bytes(), revision - 1)?;
            if !all_same(prev.as_slice(), before.as_slice()) {
                return Err(wrong(operation, format!("prev_kv should be {before:?}")));
            }
        }
        (Ask::Delete { key, range_end }, Answer::Delete { revision, deleted, prev }) => {
            let at = if *deleted > 0 { revision - 1 } else { *revision };
            let expected = range(truth, key, range_end, at)?;
            let events = truth.changes.get(revision).map_or(0, |change| change.events.len());
            if !all_same(prev, &expected) || expected.len() as i64 != *deleted || (*deleted > 0 && events != prev.len())
            {
                return Err(wrong(operation, format!("should have deleted {expected:?}")));
            }
        }
        (Ask::CompareAndSet { key, expected, value }, Answer::CompareAndSet { revision, succeeded: true, .. }) => {
            if puts(truth, *revision) != [(key.as_bytes(), value.as_bytes())] {
                return Err(wrong(operation, "an acknowledged transaction is not in the log"));
            }
            let before = truth.get(key.as_bytes(), revision - 1)?.map_or(0, |kv| kv.mod_revision.0);
            if before != *expected {
                return Err(wrong(operation, format!("the condition was false: modified at {before}")));
            }
        }
        (Ask::CompareAndSet { key, expected, .. }, Answer::CompareAndSet { revision, seen, .. }) => {
            let there = truth.get(key.as_bytes(), *revision)?;
            if there.as_ref().map_or(0, |kv| kv.mod_revision.0) == *expected {
                return Err(wrong(operation, "the condition was true"));
            }
            if !all_same(seen, there.as_slice()) {
                return Err(wrong(operation, format!("should have read {there:?}")));
            }
        }
        (Ask::PutAll { keys, value }, Answer::PutAll { revision, .. }) => {
            let expected: Vec<_> = keys.iter().map(|key| (key.as_bytes(), value.as_bytes())).collect();
            if puts(truth, *revision) != expected {
                return Err(wrong(operation, "an acknowledged transaction is not whole in the log"));
            }
        }
        (Ask::Range { key, range_end, revision: at, .. }, Answer::Range { revision, kvs }) => {
            if *revision > truth.revision() {
                return Err(wrong(operation, "a revision was read that was never committed"));
            }
            let expected = range(truth, key, range_end, if *at > 0 { *at } else { *revision })?;
            if !all_same(kvs, &expected) {
                return Err(wrong(operation, format!("should have read {expected:?}")));
            }
        }
        _ => {}
    }
    Ok(())
}

/// The point in the order at which an operation shows or makes the state, and whether it made it.
fn place(operation: &Operation) -> Option<(i64, bool)> {
    match (&operation.ask, &operation.answer) {
        (_, Answer::Put { revision, .. } | Answer::PutAll { revision, .. }) => Some((*revision, true)),
        (_, Answer::Delete { revision, deleted, .. }) => Some((*revision, *deleted > 0)),
        (_, Answer::CompareAndSet { revision, succeeded, .. }) => Some((*revision, *succeeded)),
        (Ask::Range { serializable: false, .. }, Answer::Range { revision, .. }) => Some((*revision, false)),
        _ => None,
    }
}

/// What began after something had ended must not come before it.
fn order_is_real(operations: &[Operation]) -> Result<(), Violation> {
    let mut moments: Vec<(u64, bool, &Operation)> = Vec::new();
    for operation in operations.iter().filter(|operation| place(operation).is_some()) {
        moments.push((operation.began, false, operation));
        moments.push((operation.ended, true, operation));
    }
    moments.sort_by_key(|(at, _, _)| *at);
    let mut latest: Option<(i64, &Operation)> = None;
    // The latest state that had been shown when each operation began.
    let mut floors: BTreeMap<u64, (i64, &Operation)> = BTreeMap::new();
    for (_, is_end, operation) in moments {
        let Some((revision, is_write)) = place(operation) else { continue };
        if !is_end {
            if let Some(latest) = latest {
                floors.insert(operation.began, latest);
            }
            continue;
        }
        if let Some((floor, earlier)) = floors.get(&operation.began)
            && (revision < *floor || (is_write && revision == *floor))
        {
            return Err(wrong(
                operation,
                format!("stale: revision {floor} had been seen before it began, by {earlier:?}"),
            ));
        }
        if latest.is_none_or(|(known, _)| revision > known) {
            latest = Some((revision, operation));
        }
    }
    Ok(())
}

/// A client that reads one member, serializably, never goes back; a crash of that member may take it back.
fn serializable_is_monotonic(operations: &[Operation]) -> Result<(), Violation> {
    let mut seen: BTreeMap<(usize, usize, u64), (i64, u64)> = BTreeMap::new();
    for operation in operations {
        let Answer::Range { revision, .. } = &operation.answer else { continue };
        let who = (operation.client, operation.member, operation.boot);
        let known = seen.entry(who).or_insert((0, 0));
        if *revision < known.0 && operation.began > known.1 {
            return Err(Violation::new(
                "monotonic reads",
                format!("revision {} was seen before: {operation:?}", known.0),
            ));
        }
        *known = (known.0.max(*revision), operation.ended);
    }
    Ok(())
}

/// Every write in the log was asked for, at most once, not before it was asked for, and not refused.
fn effects_are_explained(truth: &Truth, operations: &[Operation]) -> Result<(), Violation> {
    let mut asked: BTreeMap<&str, &Operation> = BTreeMap::new();
    for operation in operations {
        match &operation.ask {
            Ask::Put { value, .. } | Ask::CompareAndSet { value, .. } | Ask::PutAll { value, .. } => {
                asked.insert(value, operation);
            }
            _ => {}
        }
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for (revision, change) in &truth.changes {
        let Some(first) = change.events.iter().find(|event| event.kind == EventKind::Put) else { continue };
        let value = std::str::from_utf8(&first.kv.value).unwrap_or("?");
        let Some(operation) = asked.get(value) else {
            return Err(Violation::new("no effect without a cause", format!("nobody asked for {value} at {revision}")));
        };
        if !done.insert(value) {
            return Err(wrong(operation, format!("took effect twice, again at revision {revision}")));
        }
        if let Answer::Refused(_) = operation.answer {
            return Err(wrong(operation, format!("was refused, but took effect at revision {revision}")));
        }
        if change.seen_millis < operation.began_millis {
            return Err(wrong(operation, "took effect before it was asked for"));
        }
    }
    Ok(())
}
