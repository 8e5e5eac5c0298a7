//! How many keys a large range has, without going through all of them each time.
//!
//! A LIST answers with the exact count of its whole range, be its page 500 keys of a million (etcd keeps its index in memory
//! for that; here it is on disk). What was counted once is remembered and carried on: to a later revision by the changes
//! since, which `by_revision` has; and to the next page by the keys before it. So a list of pages costs what its pages cost,
//! and a list that is repeated costs what changed meanwhile.
//!
//! Counts kept per prefix with every write were the alternative: always there, but paid for by every write, also of what
//! nobody lists.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use xebec_store_core::{EventKind, KeyRange, Revision};

use crate::encoding::{self, Malformed};
use crate::options::Column;
use crate::{DiskError, View, scan};

/// Counts below this are not worth remembering: they are quickly taken.
const KEYS_MIN: u64 = 1_000;
/// Changes that are gone through to carry a count on.
const CHANGES_MAX: usize = 10_000;
/// Keys that are gone through to carry a count on to a range that begins later.
const KEYS_BETWEEN_MAX: u64 = 2_000;
/// Counts that are remembered.
const ENTRIES_MAX: usize = 128;

/// A count that was taken.
#[derive(Clone)]
struct Entry {
    start: Bytes,
    /// The key behind the range; `None` is no end.
    end: Option<Bytes>,
    at: Revision,
    count: u64,
}

/// The counts of one database, the latest first.
#[derive(Default)]
pub(crate) struct Counts(Mutex<VecDeque<Entry>>);

impl Counts {
    /// Counts with the same end that may be carried on to `range` at `at`, those that begin nearest first.
    fn candidates(&self, range: &KeyRange, at: Revision, compacted: Revision) -> Vec<Entry> {
        let end = range.end();
        let entries = self.0.lock();
        let fits = |entry: &&Entry| {
            entry.end == end && entry.start <= *range.start() && entry.at <= at && entry.at >= compacted
        };
        let mut found: Vec<Entry> = entries.iter().filter(fits).cloned().collect();
        found.sort_by(|a, b| (&b.start, b.at).cmp(&(&a.start, a.at)));
        found.truncate(2);
        found
    }

    fn remember(&self, range: &KeyRange, at: Revision, count: u64) {
        if count < KEYS_MIN {
            return;
        }
        let entry = Entry { start: range.start().clone(), end: range.end(), at, count };
        let mut entries = self.0.lock();
        entries.retain(|old| old.start != entry.start || old.end != entry.end || old.at > at);
        entries.push_front(entry);
        entries.truncate(ENTRIES_MAX);
    }
}

/// How many keys `range` has at `at`: a remembered count carried on, or all of them gone through.
pub(crate) fn count(view: &View, range: &KeyRange, at: Revision) -> Result<u64, DiskError> {
    if range.is_empty() {
        return Ok(0);
    }
    let counts = view.database().counts();
    for entry in counts.candidates(range, at, view.state().compacted) {
        if let Some(count) = carried_on(view, range, at, &entry)? {
            counts.remember(range, at, count);
            return Ok(count);
        }
    }
    let count = scan::count(view, range, at, u64::MAX)?;
    counts.remember(range, at, count);
    Ok(count)
}

/// The count of `range` at `at`, from one of a range that begins earlier or at an earlier revision. `None` if that is as
/// much work as counting.
fn carried_on(view: &View, range: &KeyRange, at: Revision, entry: &Entry) -> Result<Option<u64>, DiskError> {
    let Some(grown) = growth(view, range, entry.at, at)? else { return Ok(None) };
    let mut count = entry.count;
    if entry.start < *range.start() {
        let before = KeyRange::Span { start: entry.start.clone(), end: range.start().clone() };
        let skipped = scan::count(view, &before, entry.at, KEYS_BETWEEN_MAX + 1)?;
        if skipped > KEYS_BETWEEN_MAX {
            return Ok(None);
        }
        count = count.saturating_sub(skipped);
    }
    Ok(Some(count.saturating_add_signed(grown)))
}

/// By how many keys a range has grown after `from` through `to`; `None` if too much has changed to look at.
fn growth(view: &View, range: &KeyRange, from: Revision, to: Revision) -> Result<Option<i64>, DiskError> {
    if from == to {
        return Ok(Some(0));
    }
    let malformed = || view.database().malformed(Column::ByRevision);
    let mut iterator = view.iterate(Column::ByRevision, Some(encoding::revision_key(to.next(), 0).to_vec()));
    iterator.seek(encoding::revision_key(from.next(), 0));
    let (mut grown, mut looked_at) = (0, 0);
    while let Some(value) = iterator.value() {
        let change = encoding::parse_change(value).map_err(|Malformed| malformed())?;
        if range.contains(change.key) {
            match change.kind {
                EventKind::Put if change.prev_mod.0 == 0 => grown += 1,
                EventKind::Put => {}
                EventKind::Delete => grown -= 1,
            }
        }
        looked_at += 1;
        if looked_at > CHANGES_MAX {
            return Ok(None);
        }
        iterator.next();
    }
    view.database().finished(&iterator)?;
    Ok(Some(grown))
}
