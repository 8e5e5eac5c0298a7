use std::sync::Arc;

use rocksdb::WriteBatch;
use xebec_store_core::{Applied, EventKind, KeyValue, LeaseId, Revision, Write};

use crate::DiskError;
use crate::auth;
use crate::database::Database;
use crate::digest;
use crate::encoding::{self, Change};
use crate::options::Column;
use crate::state::{LOG_KEPT_NAME, MEMBERSHIP_NAME, RECORD_PREFIX, STATE_NAME, State};

/// Applied commands on their way into one atomic write.
pub(crate) struct Batch<'d> {
    database: &'d Database,
    batch: WriteBatch,
    state: State,
    /// The digest after each revision.
    digests: Vec<(Revision, u64)>,
}

impl<'d> Batch<'d> {
    pub(crate) fn new(database: &'d Database, state: State) -> Batch<'d> {
        Batch { database, batch: WriteBatch::default(), state, digests: Vec::new() }
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    pub(crate) fn put(&mut self, column: Column, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.batch.put_cf(self.database.column(column), key, value);
    }

    pub(crate) fn delete(&mut self, column: Column, key: impl AsRef<[u8]>) {
        self.batch.delete_cf(self.database.column(column), key);
    }

    pub(crate) fn set_membership(&mut self, membership: &[u8]) {
        self.put(Column::Meta, MEMBERSHIP_NAME, membership);
    }

    pub(crate) fn set_log_kept(&mut self, index: u64) {
        self.put(Column::Meta, LOG_KEPT_NAME, index.to_be_bytes());
    }

    pub(crate) fn add(&mut self, applied: &Applied) -> Result<(), DiskError> {
        let current = self.state.revision;
        let follows = if applied.events.is_empty() { current } else { current.next() };
        if applied.revision != follows {
            return Err(DiskError::RevisionGap { found: applied.revision, current });
        }
        for write in &applied.writes {
            self.add_write(write);
        }
        if applied.revision != current {
            self.digests.push((applied.revision, self.state.digest));
        }
        self.state.revision = applied.revision;
        Ok(())
    }

    pub(crate) fn add_write(&mut self, write: &Write) {
        match write {
            Write::Put { sub, kv, prev } => self.add_put(*sub, kv, prev.as_ref()),
            Write::Delete { revision, sub, prev } => self.add_delete(*revision, *sub, prev),
            Write::LeaseSet(lease) => {
                self.put(Column::Leases, encoding::lease_key(lease.id), encoding::lease_value(lease));
            }
            Write::LeaseRemove(id) => self.delete(Column::Leases, encoding::lease_key(*id)),
            Write::Compact(revision) => self.state.compacted = *revision,
            Write::ClusterTime(time) => self.state.cluster_time = *time,
            Write::AlarmSet(alarm) => {
                self.state.alarms.push(*alarm);
                self.state.alarms.sort_unstable();
            }
            Write::AlarmRemove(alarm) => self.state.alarms.retain(|raised| raised != alarm),
            Write::Auth(change) => {
                match auth::record(change) {
                    (name, Some(value)) => self.put(Column::Meta, name, value),
                    (name, None) => self.delete(Column::Meta, name),
                }
                Arc::make_mut(&mut self.state.auth).absorb(change);
            }
            Write::ClusterRecord { name, value } => {
                let key = format!("{RECORD_PREFIX}{name}");
                match value {
                    Some(value) => self.put(Column::Meta, key, value),
                    None => self.delete(Column::Meta, key),
                }
            }
        }
    }

    fn add_put(&mut self, sub: u32, kv: &KeyValue, prev: Option<&KeyValue>) {
        let value = encoding::current_value(kv);
        let before = prev.map_or(0, digest::of);
        self.state.digest = self.state.digest.wrapping_sub(before).wrapping_add(digest::of_record(&kv.key, &value));
        self.put(Column::Current, &kv.key, value);
        self.supersede(prev, kv.mod_revision);
        let prev_mod = prev.map_or(Revision(0), |prev| prev.mod_revision);
        let change = Change { kind: EventKind::Put, prev_mod, key: &kv.key };
        self.put(Column::ByRevision, encoding::revision_key(kv.mod_revision, sub), encoding::change_value(&change));
        self.move_key(&kv.key, prev.map_or(LeaseId::NONE, |prev| prev.lease), kv.lease);
    }

    fn add_delete(&mut self, revision: Revision, sub: u32, prev: &KeyValue) {
        if prev.mod_revision.0 > 0 {
            self.state.digest = self.state.digest.wrapping_sub(digest::of(prev));
        }
        self.delete(Column::Current, &prev.key);
        // A history from elsewhere may have lost the version before to compaction.
        self.supersede(Some(prev).filter(|prev| prev.mod_revision.0 > 0), revision);
        let change = Change { kind: EventKind::Delete, prev_mod: prev.mod_revision, key: &prev.key };
        self.put(Column::ByRevision, encoding::revision_key(revision, sub), encoding::change_value(&change));
        self.move_key(&prev.key, prev.lease, LeaseId::NONE);
    }

    fn supersede(&mut self, prev: Option<&KeyValue>, until: Revision) {
        if let Some(prev) = prev {
            let key = encoding::history_key(&prev.key, prev.mod_revision);
            self.put(Column::History, key, encoding::history_value(prev, until));
        }
    }

    fn move_key(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if !from.is_none() {
            self.delete(Column::LeaseKeys, encoding::lease_keys_key(from, key));
        }
        if !to.is_none() {
            self.put(Column::LeaseKeys, encoding::lease_keys_key(to, key), []);
        }
    }

    /// The digest after each revision that was added.
    pub(crate) fn take_digests(&mut self) -> Vec<(Revision, u64)> {
        std::mem::take(&mut self.digests)
    }

    /// Writes everything, the state with it, and returns the state.
    pub(crate) fn write(mut self) -> Result<State, DiskError> {
        let encoded = bincode::serialize(&self.state).expect("the state is plain data, which bincode can always write");
        self.put(Column::Meta, STATE_NAME, encoded);
        self.database.write(self.batch)?;
        Ok(self.state)
    }
}
