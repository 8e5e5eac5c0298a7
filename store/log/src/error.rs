//! Why the log could not do something.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Failures of the Raft log. After a failed write the log refuses all further writes: what the disk holds is then
/// unknown (an fsync must not be retried).
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// An operating system call failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// Synced data is damaged. Nothing was changed on disk.
    #[error("{}: offset {offset}: {reason}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Byte offset of the damage.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A segment that must exist does not.
    #[error("{}: segment with entry {index} is missing", dir.display())]
    MissingSegment {
        /// The log's directory.
        dir: PathBuf,
        /// First entry that cannot be found.
        index: u64,
    },
    /// The log ends before entries that were committed, and no snapshot covers them: it was cut.
    #[error("{}: the log ends at entry {last}, but entry {committed} was committed", dir.display())]
    Cut {
        /// The log's directory.
        dir: PathBuf,
        /// Last entry found.
        last: u64,
        /// Last entry known to be committed.
        committed: u64,
    },
    /// Another process has this log open.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The caller broke the contract: entries must follow each other.
    #[error("entry {got} appended where {want} was expected")]
    NotConsecutive {
        /// Index expected.
        want: u64,
        /// Index given.
        got: u64,
    },
    /// An entry could not be encoded or is too large.
    #[error("entry {index} cannot be stored: {reason}")]
    Unstorable {
        /// The entry.
        index: u64,
        /// Why.
        reason: String,
    },
    /// An earlier write failed, or the log was closed.
    #[error("log is closed: {reason}")]
    Closed {
        /// The first failure.
        reason: String,
    },
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), offset, reason: reason.into() }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        Self::other(error)
    }
}
