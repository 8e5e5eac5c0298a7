//! What the committed log means: the model that all histories are compared with.

use std::collections::{BTreeMap, BTreeSet};

use xebec_store_core::{Applied, Command, Event, MemoryStore, ReadView, Response, Revision, Write, apply};
use xebec_store_raft::MemberId;

use crate::checks::{Violation, raft::Committed};

/// A revocation of leases in the log.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// Which leases it ended.
    pub ids: Vec<i64>,
    /// When it was seen to be committed.
    pub seen_millis: u64,
}

/// One revision.
#[derive(Debug, Clone)]
pub struct Change {
    /// What watchers must see.
    pub events: Vec<Event>,
    /// What made it.
    pub command: Command,
    /// When it was seen to be committed.
    pub seen_millis: u64,
}

/// The committed commands, applied one by one to the simplest keyspace there is.
#[derive(Debug, Default)]
pub struct Truth {
    /// The keyspace in the end, with all its past.
    pub store: MemoryStore,
    /// What each revision changed.
    pub changes: BTreeMap<i64, Change>,
    /// Revocations in order.
    pub revocations: Vec<Revocation>,
    /// Revisions that were compacted.
    pub compactions: Vec<i64>,
    members: BTreeSet<MemberId>,
}

impl Truth {
    /// Applies what was committed.
    ///
    /// # Errors
    /// If an entry is missing, or the model cannot be read.
    pub fn new(committed: &BTreeMap<u64, Committed>) -> Result<Self, Violation> {
        let mut truth = Self::default();
        let mut expected = None;
        for (index, entry) in committed {
            if expected.is_some_and(|expected| expected != *index) {
                let detail = format!("nobody was seen to apply entry {expected:?}, but entry {index} was");
                return Err(Violation::new("the log has no gaps", detail));
            }
            expected = Some(index + 1);
            for command in entry.commands.iter() {
                truth.take(command, entry.seen_millis)?;
            }
            if let Some(members) = &entry.members {
                truth.follow(*index, members);
            }
        }
        Ok(truth)
    }

    /// A membership was committed: what is recorded of those who left goes, and that they left is recorded.
    fn follow(&mut self, index: u64, members: &BTreeSet<MemberId>) {
        let gone: Vec<MemberId> = self.members.difference(members).copied().collect();
        self.members = members.clone();
        let record =
            |kind: &str, id: MemberId, value| Write::ClusterRecord { name: format!("{kind}/{id:016x}"), value };
        let writes = gone.into_iter().flat_map(|id| {
            let at = bytes::Bytes::copy_from_slice(&index.to_be_bytes());
            [record("removed", id, Some(at)), record("member", id, None), record("incarnation", id, None)]
        });
        let (writes, revision) = (writes.collect(), self.store.current_revision());
        self.store.commit(&Applied { revision, result: Ok(Response::ClusterRecord), writes, events: Vec::new() });
    }

    fn take(&mut self, command: &Command, seen_millis: u64) -> Result<(), Violation> {
        let applied =
            apply(&self.store, command).map_err(|error| Violation::new("the model can be read", error.to_string()))?;
        self.store.commit(&applied);
        if !applied.events.is_empty() {
            let change = Change { events: applied.events.clone(), command: command.clone(), seen_millis };
            self.changes.insert(applied.revision.0, change);
        }
        let mut ids = Vec::new();
        for write in &applied.writes {
            match write {
                Write::LeaseRemove(id) => ids.push(id.0),
                Write::Compact(revision) => self.compactions.push(revision.0),
                _ => {}
            }
        }
        if !ids.is_empty() {
            self.revocations.push(Revocation { ids, seen_millis });
        }
        Ok(())
    }

    /// The last revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.current_revision().0
    }

    /// A key at a revision, whether or not that was compacted later.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn get(&self, key: &[u8], at: i64) -> Result<Option<xebec_store_core::KeyValue>, Violation> {
        self.store.get(key, Revision(at)).map_err(|error| Violation::new("the model can be read", error.to_string()))
    }
}
