//! The small facts beside the entries: the vote, what was purged, and the floor.
//!
//! `state` is replaced atomically: written beside, synced, renamed, directory synced.
//!
//! ```text
//! magic "XEBECVOT" | format u32 | crc32c of the body u32 | body
//! ```

use std::{io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};

use crate::{error::LogError, files::Files, segment::sync_dir};

const MAGIC: &[u8; 8] = b"XEBECVOT";
/// Version of the state file's format.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
const NAME: &str = "state";

/// Durable facts beside the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateFile {
    /// The vote, as the caller encoded it.
    pub vote: Option<Vec<u8>>,
    /// Last purged index and the caller's encoding of its log id.
    pub purged: Option<(u64, Vec<u8>)>,
    /// Entries up to here may be absent because a snapshot covers them.
    pub floor: u64,
}

impl StateFile {
    /// Reads the file; a missing one is empty state.
    pub fn read(files: &dyn Files, dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(NAME);
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(LogError::io(&path)(error)),
        };
        if bytes.len() < HEADER_BYTES {
            return Err(LogError::corrupt(&path, bytes.len() as u64, "the file is cut short"));
        }
        if &bytes[0..8] != MAGIC {
            return Err(LogError::corrupt(&path, 0, "not a state file"));
        }
        if bytes[8..12] != FORMAT.to_le_bytes() {
            return Err(LogError::corrupt(&path, 8, "unknown format"));
        }
        if bytes[12..16] != crc32c::crc32c(&bytes[HEADER_BYTES..]).to_le_bytes() {
            return Err(LogError::corrupt(&path, 12, "wrong checksum"));
        }
        bincode::deserialize(&bytes[HEADER_BYTES..])
            .map_err(|error| LogError::corrupt(&path, HEADER_BYTES as u64, error.to_string()))
    }

    /// Replaces the file; durable when it returns.
    pub fn write(&self, files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(NAME);
        let beside = dir.join(format!("{NAME}.new"));
        let body = bincode::serialize(self).map_err(|error| LogError::corrupt(&path, 0, error.to_string()))?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        files
            .create(&beside)
            .and_then(|file| {
                file.write_all_at(&bytes, 0)?;
                file.sync_all()
            })
            .and_then(|()| files.rename(&beside, &path))
            .map_err(LogError::io(&beside))?;
        sync_dir(files, dir)
    }
}
