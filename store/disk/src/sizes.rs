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

impl Keyspace {
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
