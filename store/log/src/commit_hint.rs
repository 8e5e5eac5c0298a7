//! How far the log was known to be committed: a hint that costs no fsync.
//!
//! `committed` is overwritten in place. After a crash of the process it is exact; after a power failure it may be old
//! or unreadable, and is then passed over. It is never ahead of what was synced here, so a log that ends before it has
//! been cut.
//!
//! ```text
//! index u64 | marker length u32 | marker | crc32c of all before u32
//! ```

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::LogError,
    files::{File, Files},
};

const NAME: &str = "committed";

/// A committed index and the caller's encoding of its log id.
pub(crate) type Committed = (u64, Vec<u8>);

#[derive(Debug)]
pub(crate) struct CommitHint {
    path: PathBuf,
    file: Arc<dyn File>,
}

impl CommitHint {
    /// Opens the file and reads what it says, if it is whole.
    pub fn open(files: &dyn Files, dir: &Path) -> Result<(Self, Option<Committed>), LogError> {
        let path = dir.join(NAME);
        let found = match files.read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(LogError::io(&path)(error)),
        };
        let file = files.open(&path, true).map_err(LogError::io(&path))?;
        Ok((Self { path, file }, found))
    }

    pub fn write(&self, index: u64, marker: &[u8]) -> Result<(), LogError> {
        let mut bytes = Vec::with_capacity(marker.len() + 16);
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&(marker.len() as u32).to_le_bytes());
        bytes.extend_from_slice(marker);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, 0).map_err(LogError::io(&self.path))
    }
}

fn parse(bytes: &[u8]) -> Option<Committed> {
    let index = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let length = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let end = 12usize.checked_add(length)?;
    let marker = bytes.get(12..end)?;
    let crc = bytes.get(end..end + 4)?;
    (crc == crc32c::crc32c(&bytes[..end]).to_le_bytes()).then(|| (index, marker.to_vec()))
}
