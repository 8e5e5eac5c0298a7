//! The promises of a watch (etcd's list): ordered, unique, atomic, resumable, reliable; prev_kv right, bookmarks true.

use xebec_proto::mvccpb::{Event, event::EventType};
use xebec_store_core::{Event as Expected, EventKind};

use crate::{
    checks::{Truth, Violation},
    history::{Seen, Watched},
};

const WATCH: &str = "watch guarantees";

/// Checks a watcher's record; it must have reached `final_revision`.
///
/// # Errors
/// The first violation.
pub fn check(truth: &Truth, number: usize, watched: &Watched, final_revision: i64) -> Result<(), Violation> {
    let fail = |why: String| Err(Violation::new(WATCH, format!("watcher {number} on {:?}: {why}", watched.prefix)));
    // The next revision this watcher is owed; 0: its first stream has not begun.
    let mut next = 0;
    for seen in &watched.seen {
        match seen {
            Seen::Started { from: 0, header } => next = header + 1,
            Seen::Started { from, .. } if *from > next => {
                return fail(format!("resumed at {from}, but is owed {next}"));
            }
            Seen::Started { .. } | Seen::Broken => {}
            Seen::Compacted(revision) => {
                if !truth.compactions.contains(revision) {
                    return fail(format!("cancelled by a compaction at {revision} that never was"));
                }
                next = next.max(*revision);
            }
            Seen::Progress(revision) => {
                if let Some(missed) = owed(truth, watched, next, *revision).next() {
                    return fail(format!("a bookmark says {revision}, but {missed:?} did not come"));
                }
                next = next.max(revision + 1);
            }
            Seen::Events(events) => {
                let last = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
                let last = last.unwrap_or(0);
                let expected: Vec<(i64, &Expected)> = owed(truth, watched, next, last).collect();
                if expected.len() != events.len() {
                    return fail(format!("from {next} to {last} came {events:?}, not {expected:?}"));
                }
                for (event, (revision, expected)) in events.iter().zip(expected) {
                    if !same(truth, event, expected, revision)? {
                        return fail(format!("came {event:?}, not {expected:?}"));
                    }
                }
                next = last + 1;
            }
        }
    }
    match owed(truth, watched, next, final_revision).next() {
        Some(missed) if next > 0 => fail(format!("{missed:?} never came")),
        _ => Ok(()),
    }
}

/// The events of the watched prefix from `from` to `to`, both included.
fn owed<'t>(
    truth: &'t Truth,
    watched: &'t Watched,
    from: i64,
    to: i64,
) -> impl Iterator<Item = (i64, &'t Expected)> + 't {
    let changes = (from <= to).then(|| truth.changes.range(from..=to));
    changes
        .into_iter()
        .flatten()
        .flat_map(|(revision, change)| change.events.iter().map(|event| (*revision, event)))
        .filter(|(_, event)| event.kv.key.starts_with(watched.prefix.as_bytes()))
}

fn same(truth: &Truth, event: &Event, expected: &Expected, revision: i64) -> Result<bool, Violation> {
    let Some(kv) = &event.kv else { return Ok(false) };
    let kind = match expected.kind {
        EventKind::Put => EventType::Put,
        EventKind::Delete => EventType::Delete,
    };
    let right = event.r#type() == kind
        && kv.key == expected.kv.key
        && kv.value == expected.kv.value
        && kv.mod_revision == revision
        && (expected.kind == EventKind::Delete
            || (kv.version == expected.kv.version && kv.create_revision == expected.kv.create_revision.0));
    let before = truth.get(&expected.kv.key, revision - 1)?;
    let prev_right = match (&event.prev_kv, before) {
        (None, None) => true,
        (Some(seen), Some(before)) => seen.value == before.value && seen.mod_revision == before.mod_revision.0,
        // Compaction may have taken it before the event was read from disk.
        (None, Some(_)) => truth.compactions.iter().any(|compacted| *compacted >= revision),
        (Some(_), None) => false,
    };
    Ok(right && prev_right)
}
