//! What has been applied, for those who wait for it.

use parking_lot::RwLock;
use tokio::sync::watch;
use xebec_store_core::{EventLog, EventLogOptions, Revision};

/// The newest events, shared by all watchers, and how far this member has come.
#[derive(Debug)]
pub struct Feed {
    events: RwLock<EventLog>,
    revision: watch::Sender<Revision>,
    applied: watch::Sender<u64>,
}

impl Feed {
    pub(crate) fn new(options: EventLogOptions, revision: Revision, applied: u64) -> Self {
        Self {
            events: RwLock::new(EventLog::new(options, revision)),
            revision: watch::Sender::new(revision),
            applied: watch::Sender::new(applied),
        }
    }

    /// Looks at the event log. Keep it short: the apply path waits.
    pub fn with_events<T>(&self, look: impl FnOnce(&EventLog) -> T) -> T {
        look(&self.events.read())
    }

    pub(crate) fn change_events(&self, change: impl FnOnce(&mut EventLog)) {
        change(&mut self.events.write());
    }

    /// Follows the keyspace's revision; the events are in the log when it changes.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Follows the index of the last applied entry.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn publish(&self, revision: Revision, applied: u64) {
        self.revision.send_if_modified(|current| std::mem::replace(current, revision) != revision);
        self.applied.send_replace(applied);
    }
}
