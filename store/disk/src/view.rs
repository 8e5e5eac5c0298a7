use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};
use xebec_store_core::auth::AuthState;
use xebec_store_core::{
    Alarm, ClusterTime, KeyRange, KeyValue, Lease, LeaseId, LogPosition, ReadView, Revision, ViewError, Visit,
};

use crate::DiskError;
use crate::counts;
use crate::database::Database;
use crate::encoding;
use crate::options::Column;
use crate::scan;
use crate::state::{MEMBERSHIP_NAME, RECORD_PREFIX, State};

/// A snapshot together with the database it is of.
struct OwnedSnapshot {
    // Declared first, so dropped first.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    database: Arc<Database>,
}

impl OwnedSnapshot {
    fn new(database: Arc<Database>) -> OwnedSnapshot {
        let snapshot = database.db().snapshot();
        // SAFETY: the snapshot borrows the `DB` inside the `Database`, which lives on the heap behind an `Arc` and is
        // neither moved nor replaced before the last `Arc` is dropped. `database` holds one for as long as the
        // snapshot lives, and is dropped after it (field order). The extended lifetime never leaves this struct:
        // everything that is handed out borrows from `self`.
        let snapshot = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(snapshot)
        };
        OwnedSnapshot { snapshot, database }
    }
}

/// The keyspace at one commit. Holding one costs little and holds up nobody, but keeps superseded data on disk: do not
/// keep it for longer than a request.
pub struct View {
    snapshot: OwnedSnapshot,
    state: State,
}

impl View {
    pub(crate) fn new(database: Arc<Database>, state: State) -> View {
        View { snapshot: OwnedSnapshot::new(database), state }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.snapshot.database
    }

    /// The last log entry whose effects this view shows.
    pub fn position(&self) -> Option<LogPosition> {
        self.state.position
    }

    /// The membership that was last committed.
    ///
    /// # Errors
    /// [`DiskError`] if it cannot be read.
    pub fn membership(&self) -> Result<Option<Bytes>, DiskError> {
        Ok(self.read(Column::Meta, MEMBERSHIP_NAME)?.map(|bytes| Bytes::copy_from_slice(&bytes)))
    }

    pub(crate) fn read(&self, column: Column, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, DiskError> {
        let database = self.database().deref();
        self.snapshot.snapshot.get_pinned_cf(database.column(column), key).map_err(|error| database.error(error))
    }

    pub(crate) fn iterate(&self, column: Column, upper: Option<Vec<u8>>) -> DBRawIteratorWithThreadMode<'_, DB> {
        let mut options = ReadOptions::default();
        if let Some(upper) = upper {
            options.set_iterate_upper_bound(upper);
        }
        self.snapshot.snapshot.raw_iterator_cf_opt(self.database().column(column), options)
    }

    /// For reading a column through: past the cache, every block against its checksum.
    pub(crate) fn iterate_once(&self, column: Column) -> DBRawIteratorWithThreadMode<'_, DB> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_verify_checksums(true);
        self.snapshot.snapshot.raw_iterator_cf_opt(self.database().column(column), options)
    }

    /// The version of `key` made at exactly `mod_revision`, if it is still kept.
    pub(crate) fn version(&self, key: &Bytes, mod_revision: Revision) -> Result<Option<KeyValue>, DiskError> {
        if let Some(found) = self.read(Column::History, &encoding::history_key(key, mod_revision))? {
            return encoding::parse_history(key.clone(), mod_revision, &found)
                .map(Some)
                .map_err(|_| self.database().malformed(Column::History));
        }
        let living = self.living(key)?;
        Ok(living.filter(|kv| kv.mod_revision == mod_revision))
    }

    pub(crate) fn living(&self, key: &[u8]) -> Result<Option<KeyValue>, DiskError> {
        self.read(Column::Current, key)?
            .map(|found| encoding::parse_current(Bytes::copy_from_slice(key), &found))
            .transpose()
            .map_err(|_| self.database().malformed(Column::Current))
    }

    pub(crate) fn version_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, DiskError> {
        if let Some(kv) = self.database().recent().get(key, at.min(self.state.revision)) {
            return Ok(Some(kv));
        }
        let living = self.living(key)?;
        if at >= self.state.revision || living.as_ref().is_some_and(|kv| kv.mod_revision <= at) {
            return Ok(living);
        }
        let mut iterator = self.iterate(Column::History, None);
        iterator.seek_for_prev(encoding::history_key(key, at));
        let Some((found_key, found)) = iterator.item() else {
            self.database().finished(&iterator)?;
            return Ok(None);
        };
        let malformed = || self.database().malformed(Column::History);
        let (found_key, mod_revision) = encoding::parse_history_key(found_key).map_err(|_| malformed())?;
        let until = encoding::parse_history_until(found).map_err(|_| malformed())?;
        if found_key != key || until <= at {
            return Ok(None);
        }
        encoding::parse_history(Bytes::from(found_key), mod_revision, found).map(Some).map_err(|_| malformed())
    }

    fn keys_of_lease(&self, id: LeaseId) -> Result<Vec<Bytes>, DiskError> {
        let prefix = encoding::lease_key(id);
        let mut iterator = self.iterate(Column::LeaseKeys, None);
        iterator.seek(prefix);
        let mut keys = Vec::new();
        while let Some(key) = iterator.key().and_then(|key| key.strip_prefix(&prefix)) {
            keys.push(Bytes::copy_from_slice(key));
            iterator.next();
        }
        self.database().finished(&iterator)?;
        Ok(keys)
    }

    fn all_leases(&self) -> Result<Vec<Lease>, DiskError> {
        let mut iterator = self.iterate(Column::Leases, None);
        iterator.seek_to_first();
        let mut leases = Vec::new();
        while let Some((key, value)) = iterator.item() {
            let lease = encoding::parse_lease(key, value).map_err(|_| self.database().malformed(Column::Leases))?;
            leases.push(lease);
            iterator.next();
        }
        self.database().finished(&iterator)?;
        leases.sort_by_key(|lease| (lease.deadline, lease.id));
        Ok(leases)
    }

    fn records(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, DiskError> {
        let prefix = format!("{RECORD_PREFIX}{prefix}");
        let mut iterator = self.iterate(Column::Meta, None);
        iterator.seek(&prefix);
        let mut records = Vec::new();
        while let Some((key, value)) = iterator.item().filter(|(key, _)| key.starts_with(prefix.as_bytes())) {
            let name = std::str::from_utf8(&key[RECORD_PREFIX.len()..])
                .map_err(|_| self.database().malformed(Column::Meta))?;
            records.push((name.to_owned(), Bytes::copy_from_slice(value)));
            iterator.next();
        }
        self.database().finished(&iterator)?;
        Ok(records)
    }
}

impl ReadView for View {
    fn current_revision(&self) -> Revision {
        self.state.revision
    }

    fn compacted_revision(&self) -> Revision {
        self.state.compacted
    }

    fn get(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, ViewError> {
        Ok(self.version_at(key, at)?)
    }

    fn scan(&self, range: &KeyRange, at: Revision, visit: &mut Visit<'_>) -> Result<(), ViewError> {
        if let KeyRange::Key(key) = range {
            if let Some(kv) = self.version_at(key, at)? {
                // One key only: there is nothing to break off.
                let (ControlFlow::Continue(()) | ControlFlow::Break(())) = visit(kv);
            }
            return Ok(());
        }
        Ok(scan::scan(self, range, at, visit)?)
    }

    fn count(&self, range: &KeyRange, at: Revision) -> Result<u64, ViewError> {
        if let KeyRange::Key(key) = range {
            return Ok(u64::from(self.version_at(key, at)?.is_some()));
        }
        Ok(counts::count(self, range, at)?)
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ViewError> {
        let key = encoding::lease_key(id);
        let Some(found) = self.read(Column::Leases, &key)? else { return Ok(None) };
        let lease = encoding::parse_lease(&key, &found).map_err(|_| self.database().malformed(Column::Leases))?;
        Ok(Some(lease))
    }

    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ViewError> {
        Ok(self.keys_of_lease(id)?)
    }

    fn leases(&self) -> Result<Vec<Lease>, ViewError> {
        Ok(self.all_leases()?)
    }

    fn cluster_time(&self) -> ClusterTime {
        self.state.cluster_time
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.state.alarms.clone()
    }

    fn auth(&self) -> &AuthState {
        &self.state.auth
    }

    fn cluster_record(&self, name: &str) -> Result<Option<Bytes>, ViewError> {
        let key = format!("{RECORD_PREFIX}{name}");
        Ok(self.read(Column::Meta, key.as_bytes())?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn cluster_records(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ViewError> {
        Ok(self.records(prefix)?)
    }
}
