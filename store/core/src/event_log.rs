use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Applied, Event, EventKind, Revision};

/// The events of one revision, in order of sub-revision. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    /// When they happened.
    pub revision: Revision,
    /// What happened.
    pub events: Arc<[Event]>,
}

impl RevisionEvents {
    /// Bytes that these events weigh in a buffer.
    pub fn weight_bytes(&self) -> usize {
        self.events.iter().map(Event::weight_bytes).sum()
    }
}

/// How much an [`EventLog`] keeps.
#[derive(Clone, Copy, Debug)]
pub struct EventLogOptions {
    /// Bytes of events; the newest revision is kept even if it alone is larger.
    pub bytes_max: usize,
    /// Revisions.
    pub revisions_max: usize,
}

impl Default for EventLogOptions {
    fn default() -> Self {
        EventLogOptions { bytes_max: 16 * 1024 * 1024, revisions_max: 16 * 1024 }
    }
}

/// The most recent events, shared by all watchers; what is older they read from disk.
///
/// Invariant: the log holds every revision from [`first_revision`](EventLog::first_revision) to
/// [`current_revision`](EventLog::current_revision) without a gap. Nothing is ever dropped from the middle, so a
/// cursor that finds its next revision here has missed nothing.
#[derive(Debug)]
pub struct EventLog {
    options: EventLogOptions,
    current: Revision,
    revisions: VecDeque<RevisionEvents>,
    bytes: usize,
    totals: EventTotals,
}

/// Events since the start, for those who count (etcd's `mvcc` metrics).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTotals {
    /// Keys put.
    pub puts: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Revisions with more than one event.
    pub txns: u64,
}

impl EventLog {
    /// An empty log of a store that is at revision `current`.
    pub fn new(options: EventLogOptions, current: Revision) -> EventLog {
        EventLog { options, current, revisions: VecDeque::new(), bytes: 0, totals: EventTotals::default() }
    }

    /// Takes in what a command has changed. Call it after the commit, in order.
    pub fn append(&mut self, applied: &Applied) {
        if !applied.events.is_empty() {
            self.append_events(applied.revision, applied.events.clone());
        }
    }

    /// Takes in the events of one revision.
    pub fn append_events(&mut self, revision: Revision, events: impl Into<Arc<[Event]>>) {
        let entry = RevisionEvents { revision, events: events.into() };
        if revision <= self.current {
            debug_assert!(false, "revision {revision} was appended already, current is {}", self.current);
            return;
        }
        if revision != self.current.next() {
            // A gap: what is here cannot be joined to what comes. Cursors catch up from disk.
            self.reset(revision.previous());
        }
        self.current = revision;
        let deletes = entry.events.iter().filter(|event| event.kind == EventKind::Delete).count() as u64;
        self.totals.deletes += deletes;
        self.totals.puts += entry.events.len() as u64 - deletes;
        self.totals.txns += u64::from(entry.events.len() > 1);
        self.bytes += entry.weight_bytes();
        self.revisions.push_back(entry);
        while self.revisions.len() > 1
            && (self.bytes > self.options.bytes_max || self.revisions.len() > self.options.revisions_max)
        {
            self.evict_oldest();
        }
    }

    /// Forgets everything and continues at `current`: a snapshot was installed.
    pub fn reset(&mut self, current: Revision) {
        self.revisions.clear();
        self.bytes = 0;
        self.current = current;
    }

    /// The newest revision.
    pub fn current_revision(&self) -> Revision {
        self.current
    }

    /// The oldest revision whose events are here; the one after the newest if the log is empty.
    pub fn first_revision(&self) -> Revision {
        self.revisions.front().map_or(self.current.next(), |entry| entry.revision)
    }

    /// Bytes held.
    pub fn weight_bytes(&self) -> usize {
        self.bytes
    }

    /// What was appended since the start.
    pub fn totals(&self) -> EventTotals {
        self.totals
    }

    /// The events from `from` on, if `from` is here.
    pub(crate) fn iter_from(&self, from: Revision) -> impl Iterator<Item = &RevisionEvents> {
        let skipped = usize::try_from(from.0 - self.first_revision().0).unwrap_or(0);
        self.revisions.range(skipped.min(self.revisions.len())..)
    }

    fn evict_oldest(&mut self) {
        if let Some(entry) = self.revisions.pop_front() {
            self.bytes -= entry.weight_bytes();
        }
    }
}
