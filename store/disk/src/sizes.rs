use rocksdb::Range;
use xebec_store_core::KeyRange;

use crate::options::Column;
use crate::{DiskError, Keyspace};

/// How large the keyspace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of living data, as far as RocksDB estimates them (etcd `dbSizeInUse`).
    pub live_bytes: u64,
    /// Bytes of files (etcd `dbSize`).
    pub disk_bytes: u64,
    /// Living keys, as far as RocksDB estimates them.
    pub keys: u64,
}

/// Above every key: keys are bounded by etcd's request size, and none begins with so many of these.
const LAST_KEY: [u8; 64] = [0xff; 64];

impl Keyspace {
    /// Bytes of files that hold the present of a range, as far as RocksDB estimates them; what was not flushed yet is not in
    /// it.
    pub fn estimate_bytes(&self, range: &KeyRange) -> u64 {
        let (start, end): (&[u8], &[u8]) = match range {
            KeyRange::Key(_) => return 0,
            KeyRange::Span { start, end } => (start, end),
            KeyRange::From(start) => (start, &LAST_KEY),
        };
        if end <= start {
            return 0;
        }
        let view = self.view();
        let database = view.database();
        database.db().get_approximate_sizes_cf(database.column(Column::Current), &[Range::new(start, end)]).iter().sum()
    }

    /// Measures the keyspace.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DiskError> {
        let view = self.view();
        let database = view.database();
        let mut live_bytes = 0;
        for column in Column::ALL {
            for property in [rocksdb::properties::ESTIMATE_LIVE_DATA_SIZE, rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES]
            {
                let size = database
                    .db()
                    .property_int_value_cf(database.column(column), property)
                    .map_err(|error| database.error(error))?;
                live_bytes += size.unwrap_or(0);
            }
        }
        let keys = database
            .db()
            .property_int_value_cf(database.column(Column::Current), rocksdb::properties::ESTIMATE_NUM_KEYS)
            .map_err(|error| database.error(error))?;
        Ok(Sizes { live_bytes, disk_bytes: database.disk_bytes()?, keys: keys.unwrap_or(0) })
    }
}
