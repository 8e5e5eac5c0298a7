use std::sync::Arc;

use bytes::Bytes;
use xebec_store_core::{Event, EventKind, KeyRange, KeyValue, ReadView, Revision, RevisionEvents};

use crate::encoding::{self, Change, Malformed};
use crate::options::Column;
use crate::{DiskError, Keyspace, View};

/// Changes that one [`Keyspace::events`] looks at, whether or not they are in the range that is asked for.
pub const CATCH_UP_SCAN_EVENTS_MAX: usize = 20_000;

/// Events read from disk for a watcher that memory cannot serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// All events of the range from the first revision asked for through `through`.
    Events {
        /// The events by revision, in order; revisions without any are left out.
        events: Vec<RevisionEvents>,
        /// How far this reaches: as far as asked, or as far as the bounds allowed. Always whole revisions.
        through: Revision,
    },
    /// The first revision asked for is compacted.
    Compacted {
        /// The lowest readable revision.
        compact_revision: Revision,
    },
}

impl Keyspace {
    /// Reads the events of `range` from revision `from` through `to`, both included, until they weigh about
    /// `bytes_max`. Hand the answer to [`WatchCursor::catch_up`](xebec_store_core::WatchCursor::catch_up).
    ///
    /// The version before a change is left out where compaction took it.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn events(
        &self,
        from: Revision,
        to: Revision,
        range: &KeyRange,
        bytes_max: usize,
    ) -> Result<CatchUp, DiskError> {
        let view = self.view();
        let compact_revision = view.compacted_revision();
        if from < compact_revision {
            return Ok(CatchUp::Compacted { compact_revision });
        }
        let to = to.min(view.current_revision());
        let mut iterator = view.iterate(Column::ByRevision, Some(encoding::revision_key(to.next(), 0).to_vec()));
        iterator.seek(encoding::revision_key(from, 0));
        let mut gathered = Gathered { events: Vec::new(), open: Vec::new(), bytes: 0 };
        let mut at = from;
        let mut looked_at = 0;
        while let Some((key, value)) = iterator.item() {
            let malformed = || view.database().malformed(Column::ByRevision);
            let (revision, _) = encoding::parse_revision_key(key).map_err(|Malformed| malformed())?;
            if revision != at {
                gathered.close(at);
                if gathered.bytes >= bytes_max || looked_at >= CATCH_UP_SCAN_EVENTS_MAX {
                    return Ok(CatchUp::Events { events: gathered.events, through: revision.previous() });
                }
                at = revision;
            }
            looked_at += 1;
            let change = encoding::parse_change(value).map_err(|Malformed| malformed())?;
            if range.contains(change.key) {
                gathered.open_event(event(&view, revision, &change)?);
            }
            iterator.next();
        }
        view.database().finished(&iterator)?;
        gathered.close(at);
        Ok(CatchUp::Events { events: gathered.events, through: to })
    }
}

struct Gathered {
    events: Vec<RevisionEvents>,
    /// Events of the revision that is being read.
    open: Vec<Event>,
    bytes: usize,
}

impl Gathered {
    fn open_event(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.bytes += event.weight_bytes();
            self.open.push(event);
        }
    }

    fn close(&mut self, revision: Revision) {
        if !self.open.is_empty() {
            let events: Arc<[Event]> = std::mem::take(&mut self.open).into();
            self.events.push(RevisionEvents { revision, events });
        }
    }
}

/// `None` for a put at the compacted revision that the same command undid: compaction takes it, as in etcd, and so it is
/// left out whether or not it is removed yet.
fn event(view: &View, revision: Revision, change: &Change<'_>) -> Result<Option<Event>, DiskError> {
    let key = Bytes::copy_from_slice(change.key);
    let version = |mod_revision: Revision| -> Result<KeyValue, DiskError> {
        view.version(&key, mod_revision)?.ok_or_else(|| {
            let reason = format!("a version of revision {mod_revision} is missing");
            DiskError::corrupt(view.database().dir(), None, reason)
        })
    };
    // etcd reads it at the revision before, which compaction may have taken.
    let has_prev = change.prev_mod.0 != 0 && revision.previous() >= view.compacted_revision();
    let prev_kv = match has_prev {
        false => None,
        // The same command had put the key: what was there before the command is asked for.
        true if change.prev_mod == revision => view.version_at(&key, revision.previous())?,
        true => Some(version(change.prev_mod)?),
    };
    let kv = match change.kind {
        EventKind::Put if revision == view.compacted_revision() => {
            let Some(kv) = view.version_at(&key, revision)? else { return Ok(None) };
            kv
        }
        EventKind::Put => version(revision)?,
        EventKind::Delete => KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() },
    };
    Ok(Some(Event { kind: change.kind, kv, prev_kv }))
}
