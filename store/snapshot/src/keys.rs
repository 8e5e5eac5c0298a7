//! The `key` bucket: keys and values byte for byte as etcd writes them, since hashes are taken over them.

use bytes::Bytes;
use prost::Message;
use xebec_store_core::{KeyValue, LeaseId, Revision};

/// Bytes of a key of the `key` bucket, and of one that marks a deletion.
const KEY_BYTES: usize = 17;
const TOMBSTONE_KEY_BYTES: usize = 18;
const TOMBSTONE_MARK: u8 = b't';

/// A key of the `key` bucket (etcd `server/storage/mvcc/revision.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketKey {
    /// The revision.
    pub revision: Revision,
    /// The place among the changes of that revision.
    pub sub: u32,
    /// Whether the key was deleted.
    pub is_tombstone: bool,
}

/// One version or deletion, in order of revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// When.
    pub key: BucketKey,
    /// The version; of a deletion only the key counts. `None`: an entry without a key, as `etcdutl snapshot restore
    /// --bump-revision` leaves to hold a revision.
    pub kv: Option<KeyValue>,
}

/// etcd `mvccpb.KeyValue`. Fields in order of number and none that is zero, as gogo/protobuf writes it.
#[derive(Clone, PartialEq, Message)]
struct KeyValueMessage {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// The bytes of a key of the `key` bucket.
pub fn bucket_key_bytes(key: &BucketKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TOMBSTONE_KEY_BYTES);
    bytes.extend_from_slice(&key.revision.0.to_be_bytes());
    bytes.push(b'_');
    bytes.extend_from_slice(&i64::from(key.sub).to_be_bytes());
    if key.is_tombstone {
        bytes.push(TOMBSTONE_MARK);
    }
    bytes
}

impl BucketKey {
    /// Reads [`bucket_key_bytes`].
    pub fn parse(bytes: &[u8]) -> Option<BucketKey> {
        let is_tombstone = match bytes.len() {
            KEY_BYTES => false,
            TOMBSTONE_KEY_BYTES if bytes[KEY_BYTES] == TOMBSTONE_MARK => true,
            _ => return None,
        };
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|chunk| i64::from_be_bytes(*chunk));
        let revision = Revision(number(0).filter(|main| *main >= 0)?);
        let sub = u32::try_from(number(9)?).ok()?;
        (bytes[8] == b'_').then_some(BucketKey { revision, sub, is_tombstone })
    }
}

/// The value of a version in the `key` bucket.
pub fn encode_put(kv: &KeyValue) -> Vec<u8> {
    let message = KeyValueMessage {
        key: kv.key.clone(),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease.0,
    };
    message.encode_to_vec()
}

/// The value of a deletion in the `key` bucket.
pub fn encode_tombstone(key: &Bytes) -> Vec<u8> {
    KeyValueMessage { key: key.clone(), ..KeyValueMessage::default() }.encode_to_vec()
}

/// Reads an entry of the `key` bucket.
pub(crate) fn parse(key: &[u8], value: &[u8]) -> Option<VersionRecord> {
    let key = BucketKey::parse(key)?;
    let message = KeyValueMessage::decode(value).ok()?;
    if message.key.is_empty() {
        return value.is_empty().then_some(VersionRecord { key, kv: None });
    }
    let kv = KeyValue {
        key: message.key,
        value: message.value,
        create_revision: Revision(message.create_revision),
        mod_revision: Revision(message.mod_revision),
        version: message.version,
        lease: LeaseId(message.lease),
    };
    Some(VersionRecord { key, kv: Some(kv) })
}

/// What every hash over the `key` bucket begins with: its name (etcd `server/storage/mvcc/hash.go`).
pub fn hash_seed() -> u32 {
    crc32c::crc32c(b"key")
}
