//! What a member stands on, apart from its configuration.

use std::sync::Arc;

use xebec_store_core::EventLogOptions;
use xebec_store_disk::TABLE_BYTES_MAX;
use xebec_store_log::{Files, LocalFiles, LogOptions};

use crate::room::{Room, UnknownRoom};

/// Entries applied after which the log is worth compacting.
const SNAPSHOT_ENTRIES: u64 = 50_000;
/// Bytes of commands applied after which the log is worth compacting.
const SNAPSHOT_BYTES: u64 = 48 << 20;
/// Bytes of log kept behind a snapshot, for followers that lag a little.
const LOG_KEPT_BYTES: u64 = 16 << 20;

/// On a small disk the log is shortened so often, and is kept so short, that each bound is no more than this part of it. What
/// was not made durable is written once more after a crash, and that must fit into the reserve for a start.
const LOG_DISK_PART: u64 = 32;
/// A table of the keyspace takes at most this part of the disk, and no less than [`TABLE_BYTES_MIN`].
const TABLE_DISK_PART: u64 = 64;
const TABLE_BYTES_MIN: u64 = 2 << 20;

/// How much of the past is kept at hand.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Entries applied after which the keyspace is made durable and the log shortened.
    pub snapshot_entries: u64,
    /// The same, in bytes of commands.
    pub snapshot_bytes: u64,
    /// Bytes of log kept for followers that lag a little.
    pub log_kept_bytes: u64,
    /// Bytes of one log segment.
    pub segment_bytes_max: u64,
    /// Bytes of log entries kept in memory.
    pub log_cache_bytes_max: usize,
    /// Events kept in memory for watchers.
    pub events: EventLogOptions,
}

impl Default for Retention {
    fn default() -> Self {
        let log = LogOptions::new("");
        Self {
            snapshot_entries: SNAPSHOT_ENTRIES,
            snapshot_bytes: SNAPSHOT_BYTES,
            log_kept_bytes: LOG_KEPT_BYTES,
            segment_bytes_max: log.segment_bytes_max,
            log_cache_bytes_max: log.cache_bytes_max,
            events: EventLogOptions::default(),
        }
    }
}

impl Retention {
    /// The usual bounds, but less on a small disk.
    fn on_disk(disk_bytes: u64) -> Self {
        let usual = Self::default();
        let part = disk_bytes / LOG_DISK_PART;
        Self {
            snapshot_bytes: usual.snapshot_bytes.min(part),
            log_kept_bytes: usual.log_kept_bytes.min(part),
            segment_bytes_max: usual.segment_bytes_max.min(part),
            ..usual
        }
    }
}

/// The file system of the log, and the bounds of what is kept: the machine's and the usual ones, or a simulator's.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where the log's files are.
    pub log_files: Arc<dyn Files>,
    /// How much is kept.
    pub retention: Retention,
    /// Whether the keyspace's tables are merged by whoever makes them durable, so that a simulation replays exactly.
    pub compacts_inline: bool,
    /// Bytes of one of the keyspace's tables.
    pub table_bytes_max: u64,
    /// The space on the keyspace's disk.
    pub room: Arc<dyn Room>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            log_files: Arc::new(LocalFiles),
            retention: Retention::default(),
            compacts_inline: false,
            table_bytes_max: TABLE_BYTES_MAX,
            room: Arc::new(UnknownRoom),
        }
    }
}

impl Surroundings {
    /// On a disk of so many bytes, if that is known.
    pub(crate) fn on_disk(disk_bytes: Option<u64>) -> Self {
        match disk_bytes {
            Some(bytes) => Self {
                retention: Retention::on_disk(bytes),
                table_bytes_max: (bytes / TABLE_DISK_PART).clamp(TABLE_BYTES_MIN, TABLE_BYTES_MAX),
                ..Self::default()
            },
            None => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_small_disk_makes_bounds_smaller() {
        let small = Surroundings::on_disk(Some(256 << 20));
        assert_eq!((small.retention.snapshot_bytes, small.table_bytes_max), (8 << 20, 4 << 20));
        let large = Surroundings::on_disk(Some(8 << 30));
        let usual = Retention::default();
        assert_eq!(large.table_bytes_max, TABLE_BYTES_MAX);
        assert_eq!(large.retention.snapshot_bytes, usual.snapshot_bytes);
        assert_eq!(large.retention.segment_bytes_max, usual.segment_bytes_max);
    }
}
