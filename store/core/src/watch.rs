use crate::{Event, EventKind, EventLog, KeyRange, Revision, RevisionEvents};

/// What a watcher asked for (etcd `WatchCreateRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to deliver; 0 or less is "from now on".
    pub start_revision: Revision,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Deliver the version before each change.
    pub prev_kv: bool,
}

/// One response's worth of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Everything up to this revision is delivered with this: the response header's revision.
    pub revision: Revision,
    /// The events, in order; never empty.
    pub events: Vec<Event>,
}

/// What a watcher has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStep {
    /// Send this, then poll again.
    Deliver(Delivery),
    /// Memory does not reach back far enough: read the events from `from` to `to` (both included) from disk, as far
    /// as a batch allows, and hand them to [`WatchCursor::catch_up`].
    CatchUp {
        /// The first revision needed.
        from: Revision,
        /// The last revision that memory does not have.
        to: Revision,
    },
    /// Cancel the watch with this `compact_revision`: history that it needs is gone.
    Compacted {
        /// The lowest readable revision.
        compact_revision: Revision,
    },
    /// Everything up to `revision` was delivered; a progress notification may say so. Wait for the log to grow.
    Synced {
        /// How far.
        revision: Revision,
    },
    /// The watch starts in the future: nothing may be sent, progress neither. Wait for the log to grow.
    Future,
}

/// One watcher's place in the stream of events.
///
/// Invariant: every revision from the start on is looked at exactly once, in order, be it in memory or from disk.
#[derive(Clone, Debug)]
pub struct WatchCursor {
    spec: WatchSpec,
    /// The first revision that may be delivered, and the least that progress may report.
    start: Revision,
    next: Revision,
    /// Not polled yet.
    is_new: bool,
}

impl WatchCursor {
    /// Starts a watch while the store is at revision `current`.
    pub fn new(spec: WatchSpec, current: Revision) -> WatchCursor {
        let asked = spec.start_revision;
        let (start, next) = if asked.0 <= 0 { (current, current.next()) } else { (asked, asked) };
        WatchCursor { spec, start, next, is_new: true }
    }

    /// What was asked for.
    pub fn spec(&self) -> &WatchSpec {
        &self.spec
    }

    /// The next revision this watcher needs.
    pub fn next_revision(&self) -> Revision {
        self.next
    }

    /// Says what to do next. `compacted` is the store's lowest readable revision; a response holds about
    /// `response_bytes_max` bytes, more only if one revision does.
    ///
    /// A watch that starts below `compacted` is refused, as in etcd; once it has begun, what is still in memory is
    /// delivered even if it was compacted meanwhile: nothing is missing then.
    pub fn poll(&mut self, log: &EventLog, compacted: Revision, response_bytes_max: usize) -> WatchStep {
        let current = log.current_revision();
        let is_new = std::mem::replace(&mut self.is_new, false);
        if is_new && self.next < compacted {
            return WatchStep::Compacted { compact_revision: compacted };
        }
        if self.next > current {
            return self.idle(current);
        }
        let first_in_memory = log.first_revision();
        if self.next < first_in_memory {
            if self.next < compacted {
                return WatchStep::Compacted { compact_revision: compacted };
            }
            return WatchStep::CatchUp { from: self.next, to: first_in_memory.previous() };
        }
        let delivery = self.take(log.iter_from(self.next), response_bytes_max);
        match delivery {
            Some(delivery) => WatchStep::Deliver(delivery),
            None => self.idle(current),
        }
    }

    /// Takes in what was read from disk after [`WatchStep::CatchUp`]: all events of the watched range from the next
    /// revision through `through`, in order. Returns the first response; poll for the rest.
    pub fn catch_up<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e RevisionEvents>,
        through: Revision,
    ) -> Option<Delivery> {
        let mut kept = Vec::new();
        for entry in events {
            if entry.revision >= self.next && entry.revision <= through {
                kept.extend(entry.events.iter().filter_map(|event| self.kept(event)));
            }
        }
        self.next = self.next.max(through.next());
        self.deliver(kept)
    }

    fn idle(&self, current: Revision) -> WatchStep {
        // etcd reports no progress before the start revision (`watchableStore.progressIfSync`).
        if current < self.start { WatchStep::Future } else { WatchStep::Synced { revision: current } }
    }

    fn take<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e RevisionEvents>,
        response_bytes_max: usize,
    ) -> Option<Delivery> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            let before = kept.len();
            kept.extend(entry.events.iter().filter_map(|event| self.kept(event)));
            let added: usize = kept.iter().skip(before).map(Event::weight_bytes).sum();
            if before > 0 && added > 0 && bytes + added > response_bytes_max {
                kept.truncate(before);
                break;
            }
            bytes += added;
            self.next = entry.revision.next();
        }
        self.deliver(kept)
    }

    /// The event as this watcher gets it, if it does.
    fn kept(&self, event: &Event) -> Option<Event> {
        let filtered = match event.kind {
            EventKind::Put => self.spec.no_put,
            EventKind::Delete => self.spec.no_delete,
        };
        if filtered || !self.spec.range.contains(&event.kv.key) {
            return None;
        }
        let prev_kv = if self.spec.prev_kv { event.prev_kv.clone() } else { None };
        Some(Event { kind: event.kind, kv: event.kv.clone(), prev_kv })
    }

    fn deliver(&mut self, events: Vec<Event>) -> Option<Delivery> {
        (!events.is_empty()).then(|| Delivery { revision: self.next.previous(), events })
    }
}
