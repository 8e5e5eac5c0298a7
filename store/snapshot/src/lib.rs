//! etcd's snapshot format: reading and writing the bbolt file that etcd's `Snapshot` RPC streams.
//!
//! **The container** is a bbolt database: pages of 4 KiB, each with a header of 16 bytes (id u64, flags u16, count u16,
//! overflow u32; all numbers little-endian). Page 0 and page 1 are meta pages (magic, version 2, page size, root bucket,
//! freelist, high-water mark, transaction, FNV-64a); the one with the higher transaction counts. Everything else is
//! B+trees: leaf elements (flags, position, key size, value size), branch elements (position, key size, page). The root
//! tree holds the buckets, whose value is the page of their own tree, or a small tree inline. A page whose elements do
//! not fit continues on `overflow` pages behind it. (bbolt `internal/common/{page,meta,bucket}.go`.)
//!
//! **The contents** are etcd's buckets (etcd `server/storage/schema/bucket.go`):
//!
//! | bucket | key | value |
//! |---|---|---|
//! | `key` | main revision u64 big-endian, `_`, sub-revision u64 big-endian, `t` if a deletion | `mvccpb.KeyValue` |
//! | `lease` | id, 8 bytes big-endian | `leasepb.Lease` |
//! | `alarm` | `etcdserverpb.AlarmMember` | nothing |
//! | `auth`, `authUsers`, `authRoles` | name | flag and revision, `authpb.User`, `authpb.Role` |
//! | `members`, `members_removed` | id in hex | JSON, `removed` |
//! | `cluster` | `clusterVersion`, `downgrade` | text, JSON |
//! | `meta` | `consistent_index`, `term`, `scheduledCompactRev`, `finishedCompactRev`, `confState`, `storageVersion` | as etcd |
//!
//! **The file** is followed by the SHA-256 of the database, so that its size is 32 more than a multiple of 512
//! (etcd `etcdutl/snapshot/v3_snapshot.go`, `hasChecksum`).
//!
//! [`Writer`] makes the container from sorted input, page after page in the order of the file, with one page a level in
//! memory. The meta pages come first and must know the root, so it runs twice over the same view: once to measure
//! ([`Layout`]), once to write. That needs no disk space at all, and reads twice what is read once.
//! [`Database`] reads it back and checks every page.

mod check;
mod contents;
mod error;
mod keys;
mod page;
mod reader;
mod records;
mod status;
mod summed;
mod writer;

pub use check::check;
pub use contents::{
    AuthRecords, Contents, VersionSource, VersionVisit, bucket, contents_of, hash, measure, read_versions, write,
};
pub use error::SnapshotError;
pub use keys::{BucketKey, VersionRecord, bucket_key_bytes, encode_put, encode_tombstone, hash_seed};
pub use page::PAGE_BYTES;
pub use reader::{Database, Visit};
pub use records::{AlarmRecord, DowngradeRecord, LeaseRecord, MemberRecord};
pub use status::{Status, status};
pub use summed::{CHECKSUM_BYTES, SnapshotFile, Summed};
pub use writer::{Layout, Writer};
