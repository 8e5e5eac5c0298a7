use std::ops::ControlFlow;

use xebec_store_core::{KeyRange, ReadView, Revision};
use xebec_store_snapshot::{BucketKey, bucket_key_bytes, encode_put, encode_tombstone, hash_seed};

use crate::versions::{Version, VersionChange};
use crate::{DiskError, Keyspace, View};

/// Hashes that are remembered (etcd `hashStorageMaxSize`).
pub(crate) const HASHES_KEPT_MAX: usize = 10;

/// A checksum over key-values, to compare members: etcd's, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The checksum (CRC-32C).
    pub hash: u32,
    /// The revision up to which it reaches.
    pub hash_revision: Revision,
    /// The lowest readable revision, from which on it counts; 0 if nothing was ever compacted (where etcd says -1).
    pub compact_revision: Revision,
}

impl Keyspace {
    /// Hashes the history up to `revision` (0 is the present) as etcd's `HashKV` does: the name of the bucket, then
    /// keys and values as etcd stores them, in order of revision. Of what lies at or before the compacted revision
    /// only versions count that are still true at `revision` (etcd `server/storage/mvcc/hash.go`, `kvHasher`).
    ///
    /// Reads the history through, and remembers the newest [few](HASHES_KEPT_MAX) outcomes: the same question is free
    /// until the next compaction.
    ///
    /// # Errors
    /// [`DiskError::Unreadable`] for a compacted or future revision; otherwise if the disk cannot be read.
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKv, DiskError> {
        let view = self.view();
        let (compacted, current) = (view.compacted_revision(), view.current_revision());
        let at = if revision.0 <= 0 { current } else { revision };
        if at > current || at < compacted {
            return Err(DiskError::Unreadable { revision, compacted, current });
        }
        let is_same = |known: &HashKv| known.hash_revision == at && known.compact_revision == compacted;
        if let Some(known) = self.hashes.lock().iter().find(|known| is_same(known)) {
            return Ok(*known);
        }
        let hash = HashKv { hash: view.hash_history(at)?, hash_revision: at, compact_revision: compacted };
        let mut hashes = self.hashes.lock();
        if hashes.len() == HASHES_KEPT_MAX {
            hashes.pop_front();
        }
        hashes.push_back(hash);
        Ok(hash)
    }
}

impl View {
    fn hash_history(&self, at: Revision) -> Result<u32, DiskError> {
        let compacted = self.compacted_revision();
        // etcd leaves nothing out if it would have to leave out everything.
        let mut some_live = false;
        let mut stop_at_first = |_| {
            some_live = true;
            ControlFlow::Break(())
        };
        crate::scan::scan(self, &KeyRange::all(), at, &mut stop_at_first)?;
        let mut hash = hash_seed();
        self.versions(&mut |version| {
            let Version { revision, sub, change } = version;
            if revision > at {
                return ControlFlow::Break(());
            }
            let is_old = revision <= compacted && compacted.0 > 0;
            let key = |is_tombstone| bucket_key_bytes(&BucketKey { revision, sub, is_tombstone });
            let (key, value) = match &change {
                VersionChange::Put(_, until) if is_old && some_live && until.is_some_and(|until| until <= at) => {
                    return ControlFlow::Continue(());
                }
                // etcd before 3.5.16 removed the deletion at the compacted revision, newer ones keep it.
                VersionChange::Delete(_) if is_old => return ControlFlow::Continue(()),
                VersionChange::Put(kv, _) => (key(false), encode_put(kv)),
                VersionChange::Delete(name) => (key(true), encode_tombstone(name)),
            };
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
            ControlFlow::Continue(())
        })?;
        Ok(hash)
    }
}
