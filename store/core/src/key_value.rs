use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LeaseId, Revision, byte_string};

/// One version of a key (etcd `mvccpb.KeyValue`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "byte_string")]
    pub key: Bytes,
    /// The value.
    #[serde(with = "byte_string")]
    pub value: Bytes,
    /// The revision at which the key last came into being.
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// 1 for a new key, one more for each put since.
    pub version: i64,
    /// The lease the key hangs on.
    pub lease: LeaseId,
}

impl KeyValue {
    /// Bytes that this version weighs in a buffer: key, value and the fixed fields.
    pub fn weight_bytes(&self) -> usize {
        const FIXED_FIELDS_BYTES: usize = 64;
        self.key.len() + self.value.len() + FIXED_FIELDS_BYTES
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted.
    Delete,
}

/// A change of one key, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; of a deletion only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// The version before; `None` for a creation, and where compaction took it.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Bytes that this event weighs in a buffer.
    pub fn weight_bytes(&self) -> usize {
        self.kv.weight_bytes() + self.prev_kv.as_ref().map_or(0, KeyValue::weight_bytes)
    }
}
