//! What the cache knows of an object, and of a change.

use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Reads a stored value of this key (behind the prefix) and revision.
pub type Decode = Arc<dyn Fn(&str, &Bytes, i64) -> Result<Entry, String> + Send + Sync>;

/// One object, encoded once for all its readers.
#[derive(Debug)]
pub struct Entry {
    /// Revision of the last change, which is its resourceVersion.
    pub revision: i64,
    /// Labels, for selectors.
    pub labels: Map<String, Value>,
    /// Selectable fields.
    pub fields: BTreeMap<String, String>,
    /// The object as JSON, without `apiVersion` and `kind`, which depend on the version that is asked for.
    pub json: Bytes,
    /// The object as it is stored.
    pub stored: Bytes,
    /// The object in its protobuf envelope, made when first asked for; `None` inside: it has none.
    protobuf: OnceLock<Option<Bytes>>,
}

impl Entry {
    /// An entry of these parts.
    pub fn new(revision: i64, labels: Map<String, Value>, fields: BTreeMap<String, String>, json: Bytes) -> Self {
        Self { revision, labels, fields, json, stored: Bytes::new(), protobuf: OnceLock::new() }
    }

    /// Adds the bytes as they are stored.
    #[must_use]
    pub fn with_stored(self, stored: Bytes) -> Self {
        Self { stored, ..self }
    }

    /// The object as data, without `apiVersion` and `kind`.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The object in protobuf, encoded by `encode` the first time.
    pub fn protobuf(&self, encode: impl FnOnce(&Self) -> Option<Bytes>) -> Option<Bytes> {
        self.protobuf.get_or_init(|| encode(self)).clone()
    }

    /// Bytes that this entry holds.
    pub fn size_bytes(&self) -> usize {
        self.json.len() + self.stored.len() + self.protobuf.get().and_then(Option::as_ref).map_or(0, Bytes::len)
    }

    /// The same object as it was when it went, with the revision at which it went (as upstream's DELETED events).
    fn at_revision(&self, revision: i64) -> Self {
        let mut value = self.value();
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        }
        let json = serde_json::to_vec(&value).map_or_else(|_| self.json.clone(), Bytes::from);
        Self::new(revision, self.labels.clone(), self.fields.clone(), json).with_stored(self.stored.clone())
    }
}

/// One change.
#[derive(Debug)]
pub struct Event {
    /// Its revision.
    pub revision: i64,
    /// Key behind the prefix.
    pub key: Arc<str>,
    /// The object after the change; `None`: deleted.
    pub current: Option<Arc<Entry>>,
    /// The object before the change.
    pub previous: Option<Arc<Entry>>,
    gone: OnceLock<Option<Arc<Entry>>>,
}

impl Event {
    pub(super) fn new(revision: i64, key: Arc<str>, current: Option<Arc<Entry>>, previous: Option<Arc<Entry>>) -> Self {
        Self { revision, key, current, previous, gone: OnceLock::new() }
    }

    /// What a DELETED event of this change shows: the former object at the revision of the change.
    pub fn gone(&self) -> Option<Arc<Entry>> {
        let make = || self.previous.as_ref().map(|entry| Arc::new(entry.at_revision(self.revision)));
        self.gone.get_or_init(make).clone()
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |entry| entry.size_bytes()) + self.key.len() + EVENT_OVERHEAD_BYTES
    }
}

const EVENT_OVERHEAD_BYTES: usize = 256;
