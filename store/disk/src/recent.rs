use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use xebec_store_core::{Applied, KeyValue, Revision, Write};

/// Bytes of living versions that are kept in memory because they were written lately, bookkeeping included.
///
/// Every put reads the version before it, on every member: with RocksDB alone that was a quarter of a member's
/// processor time under load. What is written again, or read after it was written (a Lease, a Node's status, a Pod on
/// its way), is nearly always here.
pub const RECENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What an entry weighs besides its key and value: the version's numbers, two handles and the cache's own bookkeeping.
const ENTRY_BYTES: u64 = 160;

/// Entries the cache expects; it grows beyond.
const ENTRIES_EXPECTED: usize = 16 * 1024;

/// The newest versions of keys that were written lately, of one database.
///
/// Invariant: an entry is the newest committed version of its key. Only the writer puts entries in, before it publishes
/// the view that shows them, so that a view at revision R may take an entry made at or before R for its own: had there
/// been a later version that R shows, the entry would be that one.
pub(crate) struct Recent {
    versions: Cache<Bytes, KeyValue, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Bytes, KeyValue> for Weight {
    fn weight(&self, key: &Bytes, kv: &KeyValue) -> u64 {
        key.len() as u64 + kv.value.len() as u64 + ENTRY_BYTES
    }
}

impl Recent {
    pub(crate) fn new() -> Recent {
        Recent { versions: Cache::with_weighter(ENTRIES_EXPECTED, RECENT_BYTES_MAX, Weight) }
    }

    /// The version of `key` at `at`, if it is here; `None` says nothing.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Option<KeyValue> {
        self.versions.get(key).filter(|kv| kv.mod_revision <= at)
    }

    /// Follows what the writer has committed, before it is published.
    pub(crate) fn observe(&self, applied: &[Applied]) {
        for write in applied.iter().flat_map(|applied| &applied.writes) {
            match write {
                Write::Put { kv, .. } => {
                    let kv = compact(kv);
                    self.versions.insert(kv.key.clone(), kv);
                }
                Write::Delete { prev, .. } => {
                    self.versions.remove(&prev.key);
                }
                _ => {}
            }
        }
    }
}

/// A copy that holds on to nothing else: what comes from the log is a slice of a whole batch.
fn compact(kv: &KeyValue) -> KeyValue {
    let both = Bytes::from([kv.key.as_ref(), kv.value.as_ref()].concat());
    let (key, value) = (both.slice(..kv.key.len()), both.slice(kv.key.len()..));
    KeyValue { key, value, ..*kv }
}
