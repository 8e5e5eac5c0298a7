use std::collections::HashSet;

use crate::keys;
use crate::{Database, SnapshotError, bucket, check, contents_of};

/// What `snapshot status` says (etcd `etcdutl/snapshot/v3_snapshot.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over every bucket's name, keys and values.
    pub hash: u32,
    /// The last revision.
    pub revision: i64,
    /// Keys that live at that revision.
    pub total_keys: u64,
    /// Bytes of the database.
    pub total_bytes: u64,
    /// etcd's storage version; empty before 3.6.
    pub version: String,
}

/// Checks a snapshot and sums it up. The names of living keys are held in memory meanwhile, as hashes.
///
/// # Errors
/// [`SnapshotError::Damaged`] names the first bad page.
pub fn status(database: &Database) -> Result<Status, SnapshotError> {
    check(database)?;
    let mut hash = 0;
    let mut revision = 0;
    let mut living: HashSet<u64> = HashSet::new();
    for (name, tree) in database.buckets(None)? {
        hash = crc32c::crc32c_append(hash, &name);
        let is_key = name == bucket::KEY;
        database.walk(
            &tree,
            &mut |key, value| {
                hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
                if is_key {
                    let record = keys::parse(key, value).ok_or_else(|| {
                        database.damaged_at(0, format!("the entry {} is malformed", key.escape_ascii()))
                    })?;
                    revision = record.key.revision.0;
                    // A revision that was bumped counts as a key, as with etcdutl.
                    let named = fingerprint(record.kv.as_ref().map_or(b"", |kv| kv.key.as_ref()));
                    if record.key.is_tombstone {
                        living.remove(&named)
                    } else {
                        living.insert(named)
                    };
                }
                Ok(())
            },
            None,
        )?;
    }
    let version = contents_of(database)?.storage_version.unwrap_or_default();
    let total_keys = living.len() as u64;
    Ok(Status { hash, revision, total_keys, total_bytes: database.size_bytes(), version })
}

/// 64 bits that stand for a key, so that 20 million keys take some hundred megabytes and not all their names.
fn fingerprint(key: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}
