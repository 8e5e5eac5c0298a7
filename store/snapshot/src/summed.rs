use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::SnapshotError;

/// Bytes of the SHA-256 behind the database.
pub const CHECKSUM_BYTES: usize = 32;
/// A database's size is a multiple of this, which is how etcd tells whether a checksum follows.
const SECTOR_BYTES: u64 = 512;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Sums what passes.
#[derive(Default)]
pub struct Summed(Sha256);

impl Summed {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The SHA-256.
    pub fn finish(self) -> [u8; CHECKSUM_BYTES] {
        self.0.finalize().into()
    }
}

/// A snapshot's file: a database, and perhaps its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Whether a checksum follows.
    pub has_checksum: bool,
    /// The database's SHA-256 as it was found.
    pub sha256: [u8; CHECKSUM_BYTES],
}

impl SnapshotFile {
    /// Reads the file through and compares its checksum, unless `skip_check`.
    ///
    /// # Errors
    /// [`SnapshotError::NoChecksum`], [`SnapshotError::Checksum`], [`SnapshotError::Io`].
    pub fn verify(path: &Path, skip_check: bool) -> Result<SnapshotFile, SnapshotError> {
        let io = |error| SnapshotError::io(path)(error);
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let has_checksum = size % SECTOR_BYTES == CHECKSUM_BYTES as u64;
        if !has_checksum && !skip_check {
            return Err(SnapshotError::NoChecksum);
        }
        let database_bytes = if has_checksum { size - CHECKSUM_BYTES as u64 } else { size };
        let mut sum = Summed::default();
        let mut left = database_bytes;
        let mut buffer = vec![0; BUFFER_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left.min(BUFFER_BYTES as u64)).unwrap_or(BUFFER_BYTES);
            file.read_exact(&mut buffer[..wanted]).map_err(io)?;
            sum.update(&buffer[..wanted]);
            left -= wanted as u64;
        }
        let sha256 = sum.finish();
        if has_checksum && !skip_check {
            let mut expected = [0; CHECKSUM_BYTES];
            file.seek(SeekFrom::Start(database_bytes)).map_err(io)?;
            file.read_exact(&mut expected).map_err(io)?;
            if expected != sha256 {
                return Err(SnapshotError::Checksum { expected: hex(&expected), found: hex(&sha256) });
            }
        }
        Ok(SnapshotFile { database_bytes, has_checksum, sha256 })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}
