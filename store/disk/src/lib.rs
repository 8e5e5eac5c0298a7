//! The keyspace on disk: RocksDB column families under [`xebec_store_core`]'s [`ReadView`](xebec_store_core::ReadView).
//!
//! A directory holds a marker file `KEYSPACE` and one RocksDB directory `db-<generation>`. Inside it:
//!
//! | column family | key | value |
//! |---|---|---|
//! | `current` | key | create, mod, version, lease, value of the living version |
//! | `history` | escaped key, mod revision | the superseded version and the revision that ended it |
//! | `by_revision` | revision, sub-revision | put or delete, key, the mod revision of the version before; kept as long as the version |
//! | `leases` | lease id | TTL and replicated deadline |
//! | `lease_keys` | lease id, key | nothing |
//! | `meta` | name | applied position, revisions, membership, cluster records |
//!
//! A read of the present touches `current` only. A version moves to `history` when it is superseded, with the revision
//! until which it was true, so that a read of the past needs no tombstones.
//!
//! **What is durable when.** Commits bypass RocksDB's write-ahead log, because the Raft log, which is synced before
//! anything is acknowledged, can repeat them: after a crash the keyspace comes back at the last flush, all column
//! families at the same commit (atomic flush), and Raft applies the rest again. What Raft has purged cannot be
//! repeated, so it may purge only up to [`Keyspace::durable_position`], which [`Keyspace::make_durable`] advances by a
//! flush and notes in the marker. A directory that comes back behind what its marker promised is refused.

mod auth;
mod batch;
mod checkpoint;
mod compaction;
mod counts;
mod database;
mod digest;
mod encoding;
mod error;
mod events;
mod hash;
mod keyspace;
mod load;
mod manifest;
mod marker;
mod options;
mod recent;
mod scan;
mod sizes;
mod state;
mod verify;
mod versions;
mod view;

pub use checkpoint::{Checkpoint, CheckpointFile};
pub use compaction::{COMPACTION_STEP_EVENTS_MAX, CompactionStep};
pub use digest::Scrub;
pub use error::DiskError;
pub use events::{CATCH_UP_SCAN_EVENTS_MAX, CatchUp};
pub use hash::HashKv;
pub use keyspace::Keyspace;
pub use load::{Loaded, Loader};
pub use options::{BLOCK_CACHE_BYTES, Options, TABLE_BYTES_MAX, VERIFY_BYTES_MAX_DEFAULT, WRITE_BUFFERS_BYTES};
pub use sizes::Sizes;
pub use verify::{Verified, verify};
pub use versions::{Version, VersionChange};
pub use view::View;
