use std::io;
use std::path::{Path, PathBuf};

use xebec_store_core::{LogPosition, Revision, ViewError};

/// What can go wrong with the keyspace on disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file is damaged, truncated or missing. Nothing was changed; the member must not start on it, and an operator
    /// restores the directory or lets the member join anew.
    #[error("{}{}: {reason}", file.display(), offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, if that is known.
        offset: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The directory is in use by another process.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by another format of this program.
    #[error("{}: format {found} is not one this program reads ({known})", file.display())]
    Format {
        /// The file that says so.
        file: PathBuf,
        /// The format there.
        found: u32,
        /// The format here.
        known: u32,
    },
    /// The directory belongs to another cluster.
    #[error("{}: belongs to cluster {found:x}, not to {expected:x}", dir.display())]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster there.
        found: u64,
        /// The cluster asked for.
        expected: u64,
    },
    /// Commits must come in the order of the log, each once.
    #[error("commit {position} does not come after {applied}")]
    OutOfOrder {
        /// What was to be committed.
        position: LogPosition,
        /// What was committed already.
        applied: LogPosition,
    },
    /// The revisions of applied commands must follow one another.
    #[error("applied command of revision {found} does not follow revision {current}")]
    RevisionGap {
        /// The command's revision.
        found: Revision,
        /// The keyspace's revision.
        current: Revision,
    },
    /// The revision is not readable (any more).
    #[error("revision {revision} is not between {compacted} and {current}")]
    Unreadable {
        /// What was asked for.
        revision: Revision,
        /// The lowest readable revision.
        compacted: Revision,
        /// The current revision.
        current: Revision,
    },
    /// A file operation failed.
    #[error("{}", path.display())]
    Io {
        /// On which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// RocksDB failed otherwise: out of space, out of file descriptors, an I/O error.
    #[error("RocksDB in {}", dir.display())]
    Engine {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: rocksdb::Error,
    },
}

/// How RocksDB begins what it says when the disk is full (`Status::IOError` with `kNoSpace`); its C interface gives no code.
const NO_SPACE: &str = "IO error: No space left on device";

impl DiskError {
    /// Whether this is for want of space: nothing was changed, and the same may be tried again.
    pub fn is_full(&self) -> bool {
        match self {
            DiskError::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            DiskError::Engine { source, .. } => source.as_ref().starts_with(NO_SPACE),
            _ => false,
        }
    }

    /// Names the path of a failed file operation.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_owned();
        move |source| DiskError::Io { path, source }
    }

    pub(crate) fn corrupt(file: impl Into<PathBuf>, offset: Option<u64>, reason: impl Into<String>) -> DiskError {
        DiskError::Corrupt { file: file.into(), offset, reason: reason.into() }
    }

    /// Sorts an error of RocksDB in the directory `dir`: damage is named with its file, as far as RocksDB tells it.
    pub(crate) fn engine(dir: &Path, source: rocksdb::Error) -> DiskError {
        // RocksDB says only in words which file it means; the words are not matched for anything else.
        let text = source.to_string();
        let missing = text.contains("No such file or directory");
        match source.kind() {
            rocksdb::ErrorKind::IOError if text.contains("lock") && text.contains("LOCK") => {
                DiskError::Locked { dir: dir.to_owned() }
            }
            rocksdb::ErrorKind::Corruption => DiskError::corrupt(named_file(dir, &text), named_offset(&text), text),
            rocksdb::ErrorKind::IOError | rocksdb::ErrorKind::InvalidArgument if missing => {
                DiskError::corrupt(named_file(dir, &text), None, text)
            }
            _ => DiskError::Engine { dir: dir.to_owned(), source },
        }
    }

    /// What RocksDB's C interface says when it cannot read a table in `dir`.
    pub(crate) fn unread(dir: &Path, text: String) -> DiskError {
        // The words by which the crate tells kinds of errors, too.
        if text.starts_with("Corruption: ") {
            return DiskError::corrupt(named_file(dir, &text), named_offset(&text), text);
        }
        DiskError::Io { path: dir.to_owned(), source: io::Error::other(text) }
    }
}

impl From<DiskError> for ViewError {
    fn from(error: DiskError) -> Self {
        ViewError::new(error)
    }
}

fn named_file(dir: &Path, text: &str) -> PathBuf {
    let word = text
        .split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '\'' | '"' | '(' | ')' | '[' | ']'))
        .map(|word| word.trim_end_matches('.'))
        .find(|word| word.ends_with(".sst") || word.contains("MANIFEST-") || word.ends_with("CURRENT"));
    match word {
        Some(word) => {
            let name = word.trim_start_matches('/');
            if word.starts_with('/') && Path::new(word).starts_with(dir) { PathBuf::from(word) } else { dir.join(name) }
        }
        None => dir.to_owned(),
    }
}

fn named_offset(text: &str) -> Option<u64> {
    let (_, after) = text.split_once("offset ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_offset_are_found_in_rocksdb_messages() {
        let dir = Path::new("/data/db-1");
        let table = [
            (
                "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4 in /data/db-1/000012.sst offset 345 size 67",
                "/data/db-1/000012.sst",
                Some(345),
            ),
            ("Corruption: Can't access /000010.sst: IO error: No such file", "/data/db-1/000010.sst", None),
            ("Corruption: Sst file size mismatch: /data/db-1/000011.sst. Size recorded", "/data/db-1/000011.sst", None),
            ("Corruption: something", "/data/db-1", None),
        ];
        for (text, file, offset) in table {
            assert_eq!(named_file(dir, text), PathBuf::from(file), "{text}");
            assert_eq!(named_offset(text), offset, "{text}");
        }
    }
}
