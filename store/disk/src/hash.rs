use xebec_store_core::{ReadView, Revision};

use crate::encoding::{self, Malformed};
use crate::options::Column;
use crate::{DiskError, Keyspace};

/// A checksum over key-values, to compare members (etcd `HashKV`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The checksum (CRC-32C).
    pub hash: u32,
    /// The revision up to which it reaches.
    pub hash_revision: Revision,
    /// The lowest readable revision, from which on it counts.
    pub compact_revision: Revision,
}

impl Keyspace {
    /// Hashes every version that was made at or before `revision` (0 is the present) and is still readable. Equal
    /// on all members with the same compacted revision, however far each has come with removing old versions.
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
        // A sum, so that it does not matter in which column family a version lies on this member by now.
        let mut hash = 0u32;
        let mut living = view.iterate(Column::Current, None);
        living.seek_to_first();
        while let Some((key, value)) = living.item() {
            let malformed = |Malformed| view.database().malformed(Column::Current);
            if encoding::parse_current_mod(value).map_err(malformed)? <= at {
                hash = hash.wrapping_add(version_hash(key, value, None));
            }
            living.next();
        }
        view.database().finished(&living)?;
        let mut past = view.iterate(Column::History, None);
        past.seek_to_first();
        while let Some((key, value)) = past.item() {
            let malformed = |Malformed| view.database().malformed(Column::History);
            let (key, made) = encoding::parse_history_key(key).map_err(malformed)?;
            let until = encoding::parse_history_until(value).map_err(malformed)?;
            if made <= at && until > compacted {
                let kv = encoding::parse_history(key.into(), made, value).map_err(malformed)?;
                let ended = Some(until).filter(|until| *until <= at);
                hash = hash.wrapping_add(version_hash(&kv.key, &encoding::current_value(&kv), ended));
            }
            past.next();
        }
        view.database().finished(&past)?;
        Ok(HashKv { hash, hash_revision: at, compact_revision: compacted })
    }
}

/// The hash of one version, as it was at the hashed revision: ended by then, or alive.
fn version_hash(key: &[u8], value: &[u8], ended: Option<Revision>) -> u32 {
    let hash = crc32c::crc32c_append(crc32c::crc32c(key), value);
    ended.map_or(hash, |ended| crc32c::crc32c_append(hash, &ended.0.to_le_bytes()))
}
