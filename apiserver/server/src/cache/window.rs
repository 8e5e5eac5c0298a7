//! The objects, the recent events, and cursors over them.

use super::{Cache, Event, Snapshot};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Events kept at most per resource.
const WINDOW_EVENTS_MAX: usize = 8192;
/// Events kept at least per resource, whatever their size.
const WINDOW_EVENTS_MIN: usize = 128;
/// Bytes of events kept per resource, beyond the minimum.
const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events handed to a watcher at once.
const BATCH_EVENTS_MAX: usize = 256;

/// State of one cache. Invariant: `events` holds every change after `oldest` up to `revision`, in order.
#[derive(Default)]
pub(super) struct Window {
    pub(super) snapshot: Snapshot,
    pub(super) revision: i64,
    events: VecDeque<Arc<Event>>,
    events_bytes: usize,
    /// Number of the first event in `events`, counted since the start.
    first: u64,
    /// Changes at or below this revision are not in the window any more.
    oldest: i64,
}

impl Window {
    /// Starts anew with `snapshot`; all cursors are lost, since what happened between is unknown.
    pub(super) fn reset(&mut self, snapshot: Snapshot, revision: i64) {
        self.first = self.end() + 1;
        self.events.clear();
        self.events_bytes = 0;
        self.snapshot = snapshot;
        self.revision = revision;
        self.oldest = revision;
    }

    pub(super) fn push(&mut self, event: Event) {
        debug_assert!(event.revision >= self.revision, "events come in order");
        match &event.current {
            Some(entry) => self.snapshot.insert(Arc::clone(&event.key), Arc::clone(entry)),
            None => self.snapshot.remove(&event.key),
        };
        self.events_bytes += event.size_bytes();
        self.events.push_back(Arc::new(event));
        while self.events.len() > WINDOW_EVENTS_MAX
            || (self.events.len() > WINDOW_EVENTS_MIN && self.events_bytes > WINDOW_BYTES_MAX)
        {
            let Some(event) = self.events.pop_front() else { break };
            self.events_bytes = self.events_bytes.saturating_sub(event.size_bytes());
            self.first += 1;
            self.oldest = event.revision;
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(super) fn position_after(&self, since: i64) -> Result<u64, CursorLost> {
        if since < self.oldest {
            return Err(CursorLost { oldest: self.oldest });
        }
        Ok(self.first + self.events.partition_point(|event| event.revision <= since) as u64)
    }

    fn batch(&self, next: u64) -> Result<Batch, CursorLost> {
        if next < self.first {
            return Err(CursorLost { oldest: self.oldest });
        }
        let skip = usize::try_from(next - self.first).unwrap_or(usize::MAX);
        let events: Vec<_> = self.events.iter().skip(skip).take(BATCH_EVENTS_MAX).cloned().collect();
        let whole = skip + events.len() == self.events.len();
        let revision = if whole { self.revision } else { events.last().map_or(0, |event| event.revision) };
        Ok(Batch { events, revision })
    }
}

/// The window does not reach back to where a watcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events up to revision {oldest} are not available any more")]
pub struct CursorLost {
    /// Changes after this revision are available.
    pub oldest: i64,
}

/// Some events.
pub struct Batch {
    /// In order; may be empty.
    pub events: Vec<Arc<Event>>,
    /// The watcher has seen everything up to this revision.
    pub revision: i64,
}

/// The place of one watcher in the window.
pub struct Cursor {
    cache: Arc<Cache>,
    next: u64,
    changes: watch::Receiver<i64>,
}

impl Cursor {
    pub(super) fn new(cache: Arc<Cache>, next: u64, mut changes: watch::Receiver<i64>) -> Self {
        changes.mark_changed();
        Self { cache, next, changes }
    }

    /// The next events; waits while there are none. Cancel safe.
    pub async fn next(&mut self) -> Result<Batch, CursorLost> {
        loop {
            let batch = self.cache.state.lock().batch(self.next)?;
            if !batch.events.is_empty() {
                self.next += batch.events.len() as u64;
                return Ok(batch);
            }
            if self.changes.changed().await.is_err() {
                // The cache lives as long as its cursors, so that its sender cannot be gone; end the watch anyway.
                return Err(CursorLost { oldest: batch.revision });
            }
        }
    }

    /// Everything up to this revision has been handed out, unless events wait.
    pub fn seen(&self) -> Option<i64> {
        self.cache
            .state
            .lock()
            .batch(self.next)
            .ok()
            .filter(|batch| batch.events.is_empty())
            .map(|batch| batch.revision)
    }

    /// Asks the store for a fresh revision.
    pub fn request_progress(&self) {
        self.cache.request_progress();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Entry;
    use bytes::Bytes;
    use std::collections::BTreeMap;

    fn put(window: &mut Window, key: &str, revision: i64) {
        let entry = Arc::new(Entry::new(revision, serde_json::Map::new(), BTreeMap::new(), Bytes::from_static(b"{}")));
        let previous = window.snapshot.get(key).cloned();
        window.push(Event::new(revision, key.into(), Some(entry), previous));
        window.revision = revision;
    }

    #[test]
    fn a_cursor_continues_behind_its_revision_and_is_lost_once_the_window_moved_on() {
        let mut window = Window::default();
        window.reset(Snapshot::default(), 10);
        for revision in 11..=20 {
            put(&mut window, "a/b", revision);
        }
        assert!(window.position_after(9).is_err());
        let position = window.position_after(15).expect("in the window");
        let batch = window.batch(position).expect("in the window");
        assert_eq!(batch.events.iter().map(|e| e.revision).collect::<Vec<_>>(), vec![16, 17, 18, 19, 20]);
        for revision in 21..=(21 + WINDOW_EVENTS_MAX as i64) {
            put(&mut window, "a/b", revision);
        }
        assert!(window.batch(position).is_err());
        assert_eq!(window.events.len(), WINDOW_EVENTS_MAX);
    }

    #[test]
    fn a_reset_ends_every_cursor() {
        let mut window = Window::default();
        window.reset(Snapshot::default(), 1);
        put(&mut window, "x", 2);
        let end = window.end();
        window.reset(Snapshot::default(), 50);
        assert!(window.batch(end).is_err());
        assert!(window.position_after(50).is_ok());
    }
}
