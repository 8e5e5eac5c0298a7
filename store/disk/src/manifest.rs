//! Checks RocksDB's `CURRENT` and `MANIFEST` before RocksDB opens them.
//!
//! RocksDB takes a manifest that ends early for one whose writer died, and goes on with the older state it describes,
//! deleting newer tables as leftovers. Here the part that the marker vouches for must be there and whole. The format
//! is that of RocksDB's logs: blocks of 32 KiB, records of checksum, length, type and payload
//! (RocksDB wiki, "Write Ahead Log File Format").

use std::fs;
use std::path::Path;

use crate::DiskError;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// The checksum of a record is masked, since it may itself cover checksums.
const CHECKSUM_MASK_DELTA: u32 = 0xa282_ead8;

/// The manifest that `CURRENT` names.
pub(crate) fn current_manifest(database: &Path) -> Result<String, DiskError> {
    let path = database.join("CURRENT");
    let bytes = read(&path)?;
    let name = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
    match name {
        Some(name) if manifest_number(name).is_some() => Ok(name.to_owned()),
        _ => {
            let well_formed = bytes.iter().zip(b"MANIFEST-").take_while(|(a, b)| a == b).count();
            Err(DiskError::corrupt(&path, u64::try_from(well_formed).ok(), "does not name a manifest"))
        }
    }
}

/// The number in a manifest's name; RocksDB counts up.
pub(crate) fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.parse().ok()
}

/// Checks `CURRENT` and the manifest against what the marker recorded.
pub(crate) fn check(database: &Path, recorded: &(String, u64)) -> Result<(), DiskError> {
    let (recorded_name, recorded_bytes) = recorded;
    let name = current_manifest(database)?;
    let path = database.join(&name);
    if manifest_number(&name) < manifest_number(recorded_name) {
        let reason = format!("names {name}, which is older than {recorded_name}");
        return Err(DiskError::corrupt(database.join("CURRENT"), Some(0), reason));
    }
    let bytes = read(&path)?;
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let vouched = if name == *recorded_name { *recorded_bytes } else { 0 };
    if found < vouched {
        return Err(DiskError::corrupt(&path, Some(found), format!("truncated: {vouched} bytes were written")));
    }
    check_records(&path, &bytes, vouched)
}

/// Walks the records; all must be whole, but the last, if it lies behind what the marker vouches for.
fn check_records(path: &Path, bytes: &[u8], vouched: u64) -> Result<(), DiskError> {
    for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let mut at = 0;
        // Less than a header at the end of a block is padding.
        while block.len() - at >= HEADER_BYTES {
            let offset = u64::try_from(index * BLOCK_BYTES + at).unwrap_or(u64::MAX);
            let header = &block[at..at + HEADER_BYTES];
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            if header.iter().all(|byte| *byte == 0) {
                // Space that was allocated ahead.
                break;
            }
            let Some(payload) = block.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else {
                let is_torn_tail = (index + 1) * BLOCK_BYTES >= bytes.len() && offset >= vouched;
                if is_torn_tail {
                    return Ok(());
                }
                return Err(DiskError::corrupt(path, Some(offset), "a record reaches beyond its block"));
            };
            let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let computed = crc32c::crc32c_append(crc32c::crc32c(&header[6..7]), payload);
            if computed.rotate_right(15).wrapping_add(CHECKSUM_MASK_DELTA) != stored {
                return Err(DiskError::corrupt(path, Some(offset), "a record's checksum does not match"));
            }
            at += HEADER_BYTES + length;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DiskError::corrupt(path, None, "the file is missing"))
        }
        Err(source) => Err(DiskError::Io { path: path.to_owned(), source }),
    }
}
