use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// Why a snapshot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what it should be. The offset is that of the page, or of the file's end.
    #[error("{}: offset {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte offset of the damaged page.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file ends without a SHA-256, as a database copied from a data directory does.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoChecksum,
    /// The SHA-256 at the end of the file is not that of the file.
    #[error("expected sha256 {expected}, got {found}")]
    Checksum {
        /// At the end of the file, in hex.
        expected: String,
        /// Of the file, in hex.
        found: String,
    },
    /// Keys must be written in ascending order; a writer's bug.
    #[error("a key of bucket {bucket:?} was written out of order")]
    Order {
        /// The bucket.
        bucket: String,
    },
    /// What is written does not have the measured layout; the source has changed meanwhile.
    #[error("the snapshot does not have the size that was measured")]
    Layout,
    /// The source could not be read.
    #[error("reading the keyspace failed")]
    Source(#[source] Box<dyn Error + Send + Sync>),
    /// The receiver went away.
    #[error("the receiver is gone")]
    Gone,
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    /// Wraps what a source of versions met.
    pub fn source(error: impl Error + Send + Sync + 'static) -> SnapshotError {
        SnapshotError::Source(Box::new(error))
    }

    /// Names the path of a failed file operation.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = path.to_owned();
        move |source| SnapshotError::Io { path, source }
    }
}
