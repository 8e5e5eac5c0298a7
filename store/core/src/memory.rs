use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::auth::AuthState;
use crate::{
    Alarm, Applied, ClusterTime, Event, EventKind, KeyRange, KeyValue, Lease, LeaseId, ReadView, Revision, ViewError,
    Visit, Write,
};

/// A keyspace in memory that keeps everything: the simplest thing that can commit what was applied. For tests of
/// whatever needs a [`ReadView`], and as the model that other keyspaces are compared with.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    revision: Revision,
    compacted: Revision,
    cluster_time: ClusterTime,
    /// Per key its versions, oldest first; `None` is a deletion.
    keys: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
    events: BTreeMap<Revision, Vec<Event>>,
    leases: BTreeMap<LeaseId, Lease>,
    alarms: BTreeSet<Alarm>,
    records: BTreeMap<String, Bytes>,
    auth: AuthState,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore {
            revision: Revision::EMPTY,
            compacted: Revision::NEVER_COMPACTED,
            cluster_time: ClusterTime(0),
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            records: BTreeMap::new(),
            auth: AuthState::default(),
        }
    }
}

impl MemoryStore {
    /// Commits an applied command.
    pub fn commit(&mut self, applied: &Applied) {
        for write in &applied.writes {
            self.write(write);
        }
        if !applied.events.is_empty() {
            self.events.insert(applied.revision, applied.events.clone());
        }
        self.revision = applied.revision;
    }

    /// The events of `range` from `from` to `to`, both included, by revision. A version before that lies below the
    /// compacted revision is left out.
    pub fn events(&self, from: Revision, to: Revision, range: &KeyRange) -> Vec<(Revision, Vec<Event>)> {
        let mut found = Vec::new();
        for (revision, events) in self.events.range(from..=to) {
            let mut kept: Vec<Event> = events.iter().filter(|event| range.contains(&event.kv.key)).cloned().collect();
            if revision.previous() < self.compacted {
                kept.iter_mut().for_each(|event| event.prev_kv = None);
            }
            if *revision == self.compacted {
                // A put that the same command undid is gone with what compaction took.
                let all = kept.clone();
                let mut index = 0;
                kept.retain(|event| {
                    index += 1;
                    event.kind == EventKind::Delete || all[index..].iter().all(|later| later.kv.key != event.kv.key)
                });
            }
            if !kept.is_empty() {
                found.push((*revision, kept));
            }
        }
        found
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Put { kv, .. } => {
                self.keys.entry(kv.key.clone()).or_default().push((kv.mod_revision, Some(kv.clone())));
            }
            Write::Delete { revision, prev, .. } => {
                self.keys.entry(prev.key.clone()).or_default().push((*revision, None));
            }
            Write::LeaseSet(lease) => {
                self.leases.insert(lease.id, *lease);
            }
            Write::LeaseRemove(id) => {
                self.leases.remove(id);
            }
            Write::Compact(revision) => self.compacted = *revision,
            Write::ClusterTime(time) => self.cluster_time = *time,
            Write::AlarmSet(alarm) => {
                self.alarms.insert(*alarm);
            }
            Write::AlarmRemove(alarm) => {
                self.alarms.remove(alarm);
            }
            Write::ClusterRecord { name, value: Some(value) } => {
                self.records.insert(name.clone(), value.clone());
            }
            Write::ClusterRecord { name, value: None } => {
                self.records.remove(name);
            }
            Write::Auth(change) => self.auth.absorb(change),
        }
    }
}

fn version_at(versions: &[(Revision, Option<KeyValue>)], at: Revision) -> Option<&KeyValue> {
    versions.iter().rev().find(|(revision, _)| *revision <= at).and_then(|(_, kv)| kv.as_ref())
}

impl ReadView for MemoryStore {
    fn current_revision(&self) -> Revision {
        self.revision
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }

    fn get(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, ViewError> {
        Ok(self.keys.get(key).and_then(|versions| version_at(versions, at)).cloned())
    }

    fn scan(&self, range: &KeyRange, at: Revision, visit: &mut Visit<'_>) -> Result<(), ViewError> {
        let from = (Bound::Included(range.start().as_ref()), Bound::Unbounded);
        for (_, versions) in self.keys.range::<[u8], _>(from).take_while(|(key, _)| !range.is_behind(key)) {
            if let Some(kv) = version_at(versions, at)
                && visit(kv.clone()).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ViewError> {
        Ok(self.leases.get(&id).copied())
    }

    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ViewError> {
        let current = self.keys.values().filter_map(|versions| version_at(versions, self.revision));
        Ok(current.filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect())
    }

    fn leases(&self) -> Result<Vec<Lease>, ViewError> {
        let mut leases: Vec<Lease> = self.leases.values().copied().collect();
        leases.sort_by_key(|lease| (lease.deadline, lease.id));
        Ok(leases)
    }

    fn cluster_time(&self) -> ClusterTime {
        self.cluster_time
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.iter().copied().collect()
    }

    fn auth(&self) -> &AuthState {
        &self.auth
    }

    fn cluster_record(&self, name: &str) -> Result<Option<Bytes>, ViewError> {
        Ok(self.records.get(name).cloned())
    }

    fn cluster_records(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ViewError> {
        let named = self.records.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(named.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
