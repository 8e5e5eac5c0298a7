use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::auth::AuthState;
use crate::{Alarm, ClusterTime, KeyRange, KeyValue, Lease, LeaseId, ReadView, Revision, ViewError, Visit, Write};

/// Writes that are not committed yet, laid over a view, so that what comes later sees what came before: operations of
/// one transaction, and commands that are committed together.
pub struct Overlay<'v> {
    base: &'v dyn ReadView,
    revision: Revision,
    compacted: Revision,
    cluster_time: ClusterTime,
    /// The versions written per key, oldest first; `None` is a deletion.
    keys: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
    leases: BTreeMap<LeaseId, Option<Lease>>,
    /// Per lease, keys that joined (`true`) or left it.
    attachments: BTreeMap<LeaseId, BTreeMap<Bytes, bool>>,
    alarms: Option<BTreeSet<Alarm>>,
    records: BTreeMap<String, Option<Bytes>>,
    auth: Option<AuthState>,
}

impl<'v> Overlay<'v> {
    /// Nothing written yet.
    pub fn new(base: &'v dyn ReadView) -> Overlay<'v> {
        Overlay {
            base,
            revision: base.current_revision(),
            compacted: base.compacted_revision(),
            cluster_time: base.cluster_time(),
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            attachments: BTreeMap::new(),
            alarms: None,
            records: BTreeMap::new(),
            auth: None,
        }
    }

    /// Takes one write in.
    pub fn absorb(&mut self, write: &Write) {
        match write {
            Write::Put { kv, prev, .. } => {
                self.move_key(&kv.key, prev.as_ref().map_or(LeaseId::NONE, |prev| prev.lease), kv.lease);
                self.push_version(kv.key.clone(), kv.mod_revision, Some(kv.clone()));
            }
            Write::Delete { revision, prev, .. } => {
                self.move_key(&prev.key, prev.lease, LeaseId::NONE);
                self.push_version(prev.key.clone(), *revision, None);
            }
            Write::LeaseSet(lease) => {
                self.leases.insert(lease.id, Some(*lease));
            }
            Write::LeaseRemove(id) => {
                self.leases.insert(*id, None);
            }
            Write::Compact(revision) => self.compacted = *revision,
            Write::ClusterTime(time) => self.cluster_time = *time,
            Write::AlarmSet(alarm) => {
                self.alarms_mut().insert(*alarm);
            }
            Write::AlarmRemove(alarm) => {
                self.alarms_mut().remove(alarm);
            }
            Write::ClusterRecord { name, value } => {
                self.records.insert(name.clone(), value.clone());
            }
            Write::Auth(change) => self.auth.get_or_insert_with(|| self.base.auth().clone()).absorb(change),
        }
    }

    /// Whether `key` was put at `revision` already.
    pub(crate) fn is_put_at(&self, key: &[u8], revision: Revision) -> bool {
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        versions.iter().rev().take_while(|(at, _)| *at == revision).any(|(_, kv)| kv.is_some())
    }

    fn alarms_mut(&mut self) -> &mut BTreeSet<Alarm> {
        self.alarms.get_or_insert_with(|| self.base.alarms().into_iter().collect())
    }

    fn push_version(&mut self, key: Bytes, revision: Revision, kv: Option<KeyValue>) {
        self.revision = self.revision.max(revision);
        self.keys.entry(key).or_default().push((revision, kv));
    }

    fn move_key(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if !from.is_none() {
            self.attachments.entry(from).or_default().insert(key.clone(), false);
        }
        if !to.is_none() {
            self.attachments.entry(to).or_default().insert(key.clone(), true);
        }
    }

    fn base_revision(&self, at: Revision) -> Revision {
        at.min(self.base.current_revision())
    }
}

/// What the versions of one key say about `at`: nothing, or that version (a deletion is `Some(None)`).
fn version_at(versions: &[(Revision, Option<KeyValue>)], at: Revision) -> Option<Option<&KeyValue>> {
    versions.iter().rev().find(|(revision, _)| *revision <= at).map(|(_, kv)| kv.as_ref())
}

impl ReadView for Overlay<'_> {
    fn current_revision(&self) -> Revision {
        self.revision
    }

    fn compacted_revision(&self) -> Revision {
        self.compacted
    }

    fn get(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, ViewError> {
        match self.keys.get(key).and_then(|versions| version_at(versions, at)) {
            Some(version) => Ok(version.cloned()),
            None => self.base.get(key, self.base_revision(at)),
        }
    }

    fn scan(&self, range: &KeyRange, at: Revision, visit: &mut Visit<'_>) -> Result<(), ViewError> {
        if range.is_empty() {
            return Ok(());
        }
        if let KeyRange::Key(key) = range {
            if let Some(kv) = self.get(key, at)? {
                // One key only: there is nothing to break off.
                let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit(kv);
            }
            return Ok(());
        }
        let mut written = self
            .keys
            .range::<[u8], _>((Bound::Included(range.start().as_ref()), Bound::Unbounded))
            .take_while(|(key, _)| !range.is_behind(key))
            .filter_map(|(key, versions)| version_at(versions, at).map(|version| (key, version)))
            .peekable();
        let mut flow = ControlFlow::Continue(());
        self.base.scan(range, self.base_revision(at), &mut |kv| {
            while let Some((_, version)) = written.next_if(|(key, _)| **key < kv.key) {
                if let Some(version) = version {
                    flow = visit(version.clone());
                    if flow.is_break() {
                        return flow;
                    }
                }
            }
            flow = match written.next_if(|(key, _)| **key == kv.key) {
                Some((_, Some(version))) => visit(version.clone()),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(kv),
            };
            flow
        })?;
        for (_, version) in written {
            if flow.is_break() {
                break;
            }
            if let Some(version) = version {
                flow = visit(version.clone());
            }
        }
        Ok(())
    }

    fn count(&self, range: &KeyRange, at: Revision) -> Result<u64, ViewError> {
        let mut count = self.base.count(range, self.base_revision(at))?;
        let written = self
            .keys
            .range::<[u8], _>((Bound::Included(range.start().as_ref()), Bound::Unbounded))
            .take_while(|(key, _)| !range.is_behind(key));
        for (key, versions) in written {
            let Some(version) = version_at(versions, at) else { continue };
            let was = self.base.get(key, self.base_revision(at))?.is_some();
            match (was, version.is_some()) {
                (false, true) => count += 1,
                (true, false) => count -= 1,
                _ => {}
            }
        }
        Ok(count)
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ViewError> {
        match self.leases.get(&id) {
            Some(lease) => Ok(*lease),
            None => self.base.lease(id),
        }
    }

    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ViewError> {
        let base = self.base.lease_keys(id)?;
        let Some(moved) = self.attachments.get(&id) else { return Ok(base) };
        let mut keys: BTreeSet<Bytes> = base.into_iter().collect();
        for (key, joined) in moved {
            if *joined {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().collect())
    }

    fn leases(&self) -> Result<Vec<Lease>, ViewError> {
        let mut leases: BTreeMap<LeaseId, Lease> =
            self.base.leases()?.into_iter().map(|lease| (lease.id, lease)).collect();
        for (id, lease) in &self.leases {
            match lease {
                Some(lease) => leases.insert(*id, *lease),
                None => leases.remove(id),
            };
        }
        let mut leases: Vec<Lease> = leases.into_values().collect();
        leases.sort_by_key(|lease| (lease.deadline, lease.id));
        Ok(leases)
    }

    fn cluster_time(&self) -> ClusterTime {
        self.cluster_time
    }

    fn alarms(&self) -> Vec<Alarm> {
        match &self.alarms {
            Some(alarms) => alarms.iter().copied().collect(),
            None => self.base.alarms(),
        }
    }

    fn auth(&self) -> &AuthState {
        self.auth.as_ref().unwrap_or_else(|| self.base.auth())
    }

    fn cluster_record(&self, name: &str) -> Result<Option<Bytes>, ViewError> {
        match self.records.get(name) {
            Some(value) => Ok(value.clone()),
            None => self.base.cluster_record(name),
        }
    }

    fn cluster_records(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ViewError> {
        let mut records: BTreeMap<String, Bytes> = self.base.cluster_records(prefix)?.into_iter().collect();
        for (name, value) in self.records.iter().filter(|(name, _)| name.starts_with(prefix)) {
            match value {
                Some(value) => records.insert(name.clone(), value.clone()),
                None => records.remove(name),
            };
        }
        Ok(records.into_iter().collect())
    }
}
