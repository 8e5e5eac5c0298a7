//! What a member stands on, apart from its configuration.

use std::sync::Arc;

use xebec_store_core::EventLogOptions;
use xebec_store_log::{Files, LocalFiles, LogOptions};

/// Entries applied after which the log is worth compacting.
const SNAPSHOT_ENTRIES: u64 = 50_000;
/// Bytes of commands applied after which the log is worth compacting.
const SNAPSHOT_BYTES: u64 = 48 << 20;
/// Bytes of log kept behind a snapshot, for followers that lag a little.
const LOG_KEPT_BYTES: u64 = 16 << 20;

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

/// The file system of the log, and the bounds of what is kept: the machine's and the usual ones, or a simulator's.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where the log's files are.
    pub log_files: Arc<dyn Files>,
    /// How much is kept.
    pub retention: Retention,
    /// Whether the keyspace's tables are merged by whoever makes them durable, so that a simulation replays exactly.
    pub compacts_inline: bool,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { log_files: Arc::new(LocalFiles), retention: Retention::default(), compacts_inline: false }
    }
}
