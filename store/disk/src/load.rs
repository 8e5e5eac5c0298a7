use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use xebec_store_core::{KeyValue, LogPosition, ReadView, Revision, Write};

use crate::batch::Batch;
use crate::state::Cleaning;
use crate::{DiskError, Keyspace};

/// Bytes of versions that are written at once.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes a write weighs apart from its key and value, roughly.
const FIXED_BYTES: usize = 128;

/// Fills an empty keyspace with a history from elsewhere, in order of revision. Nothing counts until
/// [`Loader::finish`].
pub struct Loader {
    keyspace: Keyspace,
    writes: Vec<Write>,
    bytes: usize,
    /// The living versions of keys that `writes` changes.
    latest: HashMap<Bytes, Option<KeyValue>>,
    revision: Revision,
}

/// Where a loaded keyspace stands.
#[derive(Clone, Debug)]
pub struct Loaded<'m> {
    /// The log entry that it stands for.
    pub position: LogPosition,
    /// The membership in it.
    pub membership: &'m [u8],
    /// Its revision, if that is above the last version's.
    pub revision: Revision,
    /// Its compacted revision.
    pub compacted: Revision,
    /// Up to which compaction old versions are removed.
    pub cleaned: Revision,
}

impl Loader {
    /// Begins to fill a new keyspace.
    pub fn new(keyspace: Keyspace) -> Loader {
        Loader { keyspace, writes: Vec::new(), bytes: 0, latest: HashMap::new(), revision: Revision::EMPTY }
    }

    /// The revision of the last version so far.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Adds a version. What is older of its key must be here already, unless it was compacted away.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn put(&mut self, sub: u32, kv: KeyValue) -> Result<(), DiskError> {
        // A key's first version has none before it: no need to look.
        let prev = if kv.version <= 1 { None } else { self.living(&kv.key)? };
        self.revision = self.revision.max(kv.mod_revision);
        self.latest.insert(kv.key.clone(), Some(kv.clone()));
        self.bytes += kv.key.len() + kv.value.len();
        self.add(Write::Put { sub, kv, prev })
    }

    /// Adds the end of a key. A key that compaction has taken leaves no more than its revision.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn delete(&mut self, revision: Revision, sub: u32, key: &Bytes) -> Result<(), DiskError> {
        self.revision = self.revision.max(revision);
        let prev = self.living(key)?;
        self.latest.insert(key.clone(), None);
        // Also without a version before: the deletion at the compacted revision is still an event.
        let prev = prev.unwrap_or_else(|| KeyValue { key: key.clone(), ..KeyValue::default() });
        self.add(Write::Delete { revision, sub, prev })
    }

    /// Adds anything that has no revision: a lease, an alarm, a user.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn add(&mut self, write: Write) -> Result<(), DiskError> {
        self.bytes += FIXED_BYTES;
        self.writes.push(write);
        if self.bytes < BATCH_BYTES_MAX { Ok(()) } else { self.flush() }
    }

    /// Completes the keyspace and brings it to disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(mut self, loaded: &Loaded<'_>) -> Result<(), DiskError> {
        self.flush()?;
        let view = self.keyspace.view();
        let mut batch = Batch::new(view.database(), view.state().clone());
        batch.set_membership(loaded.membership);
        let state = batch.state_mut();
        state.position = Some(loaded.position);
        state.revision = self.revision.max(loaded.revision).max(loaded.compacted);
        state.compacted = loaded.compacted;
        state.cleaning = Cleaning { done: loaded.cleaned, next_revision: loaded.cleaned, next_sub: 0 };
        let state = batch.write()?;
        self.keyspace.publish(Arc::clone(view.database()), state);
        self.keyspace.make_durable()?;
        Ok(())
    }

    fn living(&self, key: &Bytes) -> Result<Option<KeyValue>, DiskError> {
        match self.latest.get(key) {
            Some(known) => Ok(known.clone()),
            None => self.keyspace.view().living(key),
        }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let view = self.keyspace.view();
        let mut batch = Batch::new(view.database(), view.state().clone());
        for write in &self.writes {
            batch.add_write(write);
        }
        batch.state_mut().revision = view.current_revision().max(self.revision);
        let state = batch.write()?;
        self.keyspace.publish(Arc::clone(view.database()), state);
        self.writes.clear();
        self.latest.clear();
        self.bytes = 0;
        Ok(())
    }
}
