use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, WriteBufferManager};

/// Bytes of table blocks that are kept in memory, indexes and filters included, for all column families together.
pub const BLOCK_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of commits that wait in memory for a flush, for all column families together. Also bounds what Raft has to
/// apply again after a crash.
pub const WRITE_BUFFERS_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of one column family's write buffer.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// A directory of up to this many bytes is read through when it is opened, every block against its checksum.
pub const VERIFY_BYTES_MAX_DEFAULT: u64 = 256 * 1024 * 1024;

/// Bytes of one table, and how many tables' worth the first level has that others are merged into: RocksDB's own
/// defaults. See [`Options::table_bytes_max`].
pub const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FIRST_LEVEL_TABLES: u64 = 4;

/// Tables that one merge may read and write where tables are small. RocksDB's own default is 25: more than a small disk that
/// is nearly full has room for.
const MERGE_TABLES_MAX: u64 = 10;

/// Where compaction is inline, this many new tables of a column family are worth it: RocksDB's own default.
pub(crate) const INLINE_COMPACTION_TABLES: u64 = 4;

/// Files RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 1_024;

/// RocksDB's threads for flushes and compactions.
const BACKGROUND_JOBS_MAX: i32 = 2;

/// RocksDB's own log files that are kept, and their size.
const INFO_LOG_FILES_MAX: usize = 2;
const INFO_LOG_FILE_BYTES_MAX: usize = 1024 * 1024;

/// A manifest beyond this size is written anew.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Of this many consecutive entries, that many deletions make a table worth compacting, so that compacted history
/// gives its space back soon.
const DELETIONS_WINDOW_ENTRIES: usize = 4_096;
const DELETIONS_IN_WINDOW_MIN: usize = 2_048;

/// Share of a write buffer that its key filter may take.
const MEMTABLE_FILTER_RATIO: f64 = 0.05;

/// Keys per hash bucket in a block of current values.
const DATA_BLOCK_HASH_RATIO: f64 = 0.75;

/// How to open a keyspace.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster this keyspace belongs to: noted in a new directory, compared in an old one; 0 is not compared.
    pub cluster_id: u64,
    /// Bytes of table blocks kept in memory.
    pub block_cache_bytes: usize,
    /// Up to this size every block is checked at open. Larger directories are checked file by file (presence, size,
    /// footer), and block by block as they are read.
    pub verify_bytes_max: u64,
    /// Whether tables are merged only while the keyspace is made durable, by whoever does that, and not by threads in
    /// their own time. For simulations: the same calls then make the same files.
    pub compacts_inline: bool,
    /// Bytes of one table. All else that decides how much room a merge of tables needs follows from it, so that on a
    /// small disk a merge needs no more than a small part of it.
    pub table_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cluster_id: 0,
            block_cache_bytes: BLOCK_CACHE_BYTES,
            verify_bytes_max: VERIFY_BYTES_MAX_DEFAULT,
            compacts_inline: false,
            table_bytes_max: TABLE_BYTES_MAX,
        }
    }
}

/// The column families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Current,
    History,
    ByRevision,
    Leases,
    LeaseKeys,
    Meta,
}

impl Column {
    pub(crate) const ALL: [Column; 6] =
        [Column::Current, Column::History, Column::ByRevision, Column::Leases, Column::LeaseKeys, Column::Meta];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Column::Current => "current",
            Column::History => "history",
            Column::ByRevision => "by_revision",
            Column::Leases => "leases",
            Column::LeaseKeys => "lease_keys",
            Column::Meta => "meta",
        }
    }
}

pub(crate) fn database_options(create: bool) -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_paranoid_checks(true);
    // Commits bypass the write-ahead log, so all column families must reach the disk at the same commit.
    options.set_atomic_flush(true);
    // One thread writes: its inserts need no atomic instructions, and one in order continues where the last one ended.
    options.set_allow_concurrent_memtable_write(false);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(WRITE_BUFFERS_BYTES, false));
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS_MAX);
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX);
    options.set_max_log_file_size(INFO_LOG_FILE_BYTES_MAX);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_stats_dump_period_sec(0);
    options
}

pub(crate) fn column_options(column: Column, cache: &Cache, keyspace: &Options) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    let mut options = rocksdb::Options::default();
    if column == Column::Current {
        // Most puts make no new key, and a put's first question is for the version before it: without a filter it
        // would search every write buffer.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        table.set_data_block_hash_ratio(DATA_BLOCK_HASH_RATIO);
    }
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_disable_auto_compactions(keyspace.compacts_inline);
    options.set_target_file_size_base(keyspace.table_bytes_max);
    options.set_max_bytes_for_level_base(keyspace.table_bytes_max * FIRST_LEVEL_TABLES);
    if keyspace.table_bytes_max < TABLE_BYTES_MAX {
        options.set_max_compaction_bytes(keyspace.table_bytes_max * MERGE_TABLES_MAX);
    }
    if matches!(column, Column::History | Column::ByRevision) {
        options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW_ENTRIES, DELETIONS_IN_WINDOW_MIN, 0.0);
    }
    options
}
