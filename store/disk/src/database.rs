use std::ffi::CStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    AsRawPtr, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIteratorWithThreadMode, FlushOptions, IteratorMode,
    ReadOptions, ReadTier, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::DiskError;
use crate::counts::Counts;
use crate::marker::{TableSum, Tables};
use crate::options::{BLOCK_CACHE_BYTES, Column, INLINE_COMPACTION_TABLES, Options, column_options, database_options};
use crate::recent::Recent;
use crate::state::{STATE_NAME, State};

/// Bytes read at a time while a file is checked.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// RocksDB's name for the number of tables that were flushed and not merged yet.
const NUM_FILES_AT_LEVEL_0: &str = "rocksdb.num-files-at-level0";

/// One opened RocksDB directory. When it was replaced, it is removed as soon as the last view of it is gone.
pub(crate) struct Database {
    dir: PathBuf,
    replaced: AtomicBool,
    recent: Recent,
    counts: Counts,
    /// `None` only while dropping.
    db: Option<DB>,
}

impl Database {
    pub(crate) fn open(dir: &Path, create: bool, options: &Options) -> Result<Database, DiskError> {
        let columns = descriptors(options);
        let db = DB::open_cf_descriptors(&database_options(create), dir, columns)
            .map_err(|error| DiskError::engine(dir, error))?;
        Ok(Database::around(dir, db))
    }

    /// Opens a directory that must not be changed, such as a checkpoint.
    pub(crate) fn open_read_only(dir: &Path, block_cache_bytes: usize) -> Result<Database, DiskError> {
        let options = Options { block_cache_bytes, compacts_inline: true, ..Options::default() };
        let db = DB::open_cf_descriptors_read_only(&database_options(false), dir, descriptors(&options), false)
            .map_err(|error| DiskError::engine(dir, error))?;
        Ok(Database::around(dir, db))
    }

    fn around(dir: &Path, db: DB) -> Database {
        Database {
            dir: dir.to_owned(),
            replaced: AtomicBool::new(false),
            recent: Recent::new(),
            counts: Counts::default(),
            db: Some(db),
        }
    }

    /// What was written lately, in memory.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Counts of large ranges.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn db(&self) -> &DB {
        self.db.as_ref().expect("the database is there until it is dropped")
    }

    pub(crate) fn column(&self, column: Column) -> &ColumnFamily {
        self.db().cf_handle(column.name()).expect("a database is opened with all its column families")
    }

    pub(crate) fn error(&self, error: rocksdb::Error) -> DiskError {
        DiskError::engine(&self.dir, error)
    }

    /// An entry that RocksDB holds to be whole, but that is none of ours.
    pub(crate) fn malformed(&self, column: Column) -> DiskError {
        DiskError::corrupt(&self.dir, None, format!("a record in column family {} is malformed", column.name()))
    }

    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), DiskError> {
        let mut options = WriteOptions::default();
        // The Raft log repeats what a crash takes; see the crate's documentation.
        options.disable_wal(true);
        self.db().write_opt(batch, &options).map_err(|error| self.error(error))
    }

    /// Brings every commit so far to disk, all column families at once.
    pub(crate) fn flush(&self) -> Result<(), DiskError> {
        let columns = Column::ALL.map(|column| self.column(column));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db().flush_cfs_opt(&columns, &options).map_err(|error| self.error(error))
    }

    /// Merges the tables of column families that have enough new ones, here and now.
    pub(crate) fn compact_inline(&self) -> Result<(), DiskError> {
        for column in Column::ALL.map(|column| self.column(column)) {
            let new =
                self.db().property_int_value_cf(column, NUM_FILES_AT_LEVEL_0).map_err(|error| self.error(error))?;
            if new.is_some_and(|new| new >= INLINE_COMPACTION_TABLES) {
                self.db().compact_range_cf(column, None::<&[u8]>, None::<&[u8]>);
            }
        }
        self.settle()
    }

    /// Waits until RocksDB's threads are done, the removal of replaced tables included.
    pub(crate) fn settle(&self) -> Result<(), DiskError> {
        self.db().wait_for_compact(&WaitForCompactOptions::default()).map_err(|error| self.error(error))
    }

    pub(crate) fn read_state(&self, tier: ReadTier) -> Result<Option<State>, DiskError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(tier);
        let found = self
            .db()
            .get_pinned_cf_opt(self.column(Column::Meta), STATE_NAME, &options)
            .map_err(|error| self.error(error))?;
        found.map(|bytes| self.parse_state(&bytes)).transpose()
    }

    pub(crate) fn parse_state(&self, bytes: &[u8]) -> Result<State, DiskError> {
        bincode::deserialize(bytes).map_err(|_| self.malformed(Column::Meta))
    }

    /// Whether an iterator stopped because it was through, and not because it failed.
    pub(crate) fn finished(&self, iterator: &DBRawIteratorWithThreadMode<'_, DB>) -> Result<(), DiskError> {
        iterator.status().map_err(|error| self.error(error))
    }

    /// Reads everything, every block against its checksum: first all blocks of all living tables, filters, properties
    /// and indexes included, then every record.
    pub(crate) fn verify(&self) -> Result<(), DiskError> {
        self.verify_blocks()?;
        for column in Column::ALL {
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.fill_cache(false);
            for entry in self.db().iterator_cf_opt(self.column(column), options, IteratorMode::Start) {
                entry.map_err(|error| self.error(error))?;
            }
        }
        Ok(())
    }

    /// Reads every block of every living table against its checksum, those too that reading records does not need:
    /// RocksDB takes a damaged filter or properties block for a missing one, and goes on without.
    fn verify_blocks(&self) -> Result<(), DiskError> {
        let mut failed = ptr::null_mut();
        // SAFETY: the database is open for as long as `self` is borrowed, and `failed` is where the message's address goes.
        unsafe { librocksdb_sys::rocksdb_verify_checksum(self.db().as_raw_ptr(), &raw mut failed) };
        if failed.is_null() {
            return Ok(());
        }
        // SAFETY: RocksDB has put a string there that is ours now, and to be freed with its allocator.
        let text = unsafe {
            let text = CStr::from_ptr(failed).to_string_lossy().into_owned();
            librocksdb_sys::rocksdb_free(failed.cast());
            text
        };
        Err(DiskError::unread(&self.dir, text))
    }

    /// The living tables with their checksums. Those in `known` are taken over, the others are read through once.
    pub(crate) fn sum_tables(&self, known: &Tables) -> Result<Tables, DiskError> {
        let mut tables = Tables::new();
        for file in self.db().live_files().map_err(|error| self.error(error))? {
            let name = file.name.trim_start_matches('/').to_owned();
            let sum = match known.get(&name) {
                Some(sum) => *sum,
                None => match measure(&self.dir.join(&name)) {
                    Ok(sum) => sum,
                    // Compacted away since the list was made.
                    Err(DiskError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            tables.insert(name, sum);
        }
        Ok(tables)
    }

    /// Bytes of all files of the directory.
    pub(crate) fn disk_bytes(&self) -> Result<u64, DiskError> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.dir).map_err(DiskError::io(&self.dir))? {
            let entry = entry.map_err(DiskError::io(&self.dir))?;
            match entry.metadata() {
                Ok(metadata) => bytes += metadata.len(),
                // RocksDB deletes files at any time.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(DiskError::Io { path: entry.path(), source }),
            }
        }
        Ok(bytes)
    }

    /// Another database has taken this one's place.
    pub(crate) fn mark_replaced(&self) {
        self.replaced.store(true, Ordering::Release);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.db.take());
        if self.replaced.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            // The next open removes what is left.
            tracing::warn!(dir = %self.dir.display(), %error, "removing a replaced keyspace failed");
        }
    }
}

fn descriptors(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let mut descriptors: Vec<_> = Column::ALL
        .into_iter()
        .map(|column| ColumnFamilyDescriptor::new(column.name(), column_options(column, &cache, options)))
        .collect();
    // RocksDB insists on its default column family; nothing is kept in it. But the largest write buffer is what it wants to
    // see free before it goes on after the disk was full (`SstFileManagerImpl::ReserveDiskBuffer`).
    descriptors.push(ColumnFamilyDescriptor::new("default", column_options(Column::Meta, &cache, options)));
    descriptors
}

/// Checks the tables of the closed database in `dir` against what was recorded of them; those that are not there any
/// more were compacted away, or RocksDB will miss them. `bytes_max` bounds what is read.
pub(crate) fn verify_tables(dir: &Path, recorded: &Tables, bytes_max: u64) -> Result<(), DiskError> {
    let reads_all = recorded.values().map(|sum| sum.size_bytes).sum::<u64>() <= bytes_max;
    for (name, expected) in recorded {
        let path = dir.join(name);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.len() != expected.size_bytes {
            let reason = format!("truncated or overwritten: {} bytes were written", expected.size_bytes);
            return Err(DiskError::corrupt(path, Some(metadata.len()), reason));
        }
        if reads_all && measure(&path)? != *expected {
            return Err(locate(dir, path));
        }
    }
    Ok(())
}

/// The error for a table whose checksum is wrong; with the offset, if RocksDB can tell it.
fn locate(dir: &Path, table: PathBuf) -> DiskError {
    let told = Database::open_read_only(dir, BLOCK_CACHE_BYTES).and_then(|database| database.verify());
    match told {
        Err(DiskError::Corrupt { file, offset: Some(offset), reason }) if file == table => {
            DiskError::corrupt(table, Some(offset), reason)
        }
        _ => DiskError::corrupt(table, None, "the table's checksum does not match"),
    }
}

/// Reads a file through.
pub(crate) fn measure(path: &Path) -> Result<TableSum, DiskError> {
    let mut file = fs::File::open(path).map_err(DiskError::io(path))?;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut sum = TableSum { size_bytes: 0, crc32c: 0 };
    loop {
        let read = file.read(&mut buffer).map_err(DiskError::io(path))?;
        if read == 0 {
            return Ok(sum);
        }
        sum.crc32c = crc32c::crc32c_append(sum.crc32c, &buffer[..read]);
        sum.size_bytes += u64::try_from(read).unwrap_or(0);
    }
}
