//! One entry as bytes in a segment.
//!
//! ```text
//! length u32 | index u64 | synced u64 | payload crc32c u32 | header crc32c u32 | payload
//! ```
//!
//! All little-endian. The header has a checksum of its own, so that a damaged length cannot send the scan astray.
//! `synced` is how many bytes of this segment were known to be on disk when the record was written: a sound record whose
//! `synced` lies behind a damaged one proves that the damage was once sound, and is therefore not a torn write.

/// Bytes before a record's payload.
pub(crate) const HEADER_BYTES: usize = 28;
/// Largest payload, in bytes; far above any batch of proposals.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;
/// Disks write at least this many bytes at once; a torn write leaves whole sectors behind as zeros.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub length: u32,
    pub index: u64,
    pub synced: u64,
    pub payload_crc: u32,
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// A sound record.
    Record(Header),
    /// Damage that looks like a write cut short: the file ends, or sectors are zero.
    Torn(&'static str),
    /// Damage that a write cut short cannot explain.
    Bad(&'static str),
}

/// Appends a record to `out`; `payload` was already appended at `start + HEADER_BYTES`.
pub(crate) fn seal(out: &mut [u8], start: usize, index: u64, synced: u64) {
    let payload_crc = crc32c::crc32c(&out[start + HEADER_BYTES..]);
    let length = (out.len() - start - HEADER_BYTES) as u32;
    let head = &mut out[start..start + HEADER_BYTES];
    head[0..4].copy_from_slice(&length.to_le_bytes());
    head[4..12].copy_from_slice(&index.to_le_bytes());
    head[12..20].copy_from_slice(&synced.to_le_bytes());
    head[20..24].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32c::crc32c(&head[0..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the header at the start of `bytes`, if it is sound.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let head = bytes.get(..HEADER_BYTES)?;
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if crc32c::crc32c(&head[0..24]) != u32_at(24) || u32_at(0) as usize > PAYLOAD_BYTES_MAX {
        return None;
    }
    Some(Header { length: u32_at(0), index: u64_at(4), synced: u64_at(12), payload_crc: u32_at(20) })
}

/// Judges the record at `offset` of a whole segment file.
pub(crate) fn scan(file: &[u8], offset: usize) -> Scan {
    let rest = &file[offset..];
    if rest.len() < HEADER_BYTES {
        return Scan::Torn("the file ends within a record's header");
    }
    let Some(header) = header(rest) else {
        if has_zero_sector(file, offset, offset + HEADER_BYTES) {
            return Scan::Torn("a record's header was not written");
        }
        return Scan::Bad("a record's header has a wrong checksum");
    };
    let end = HEADER_BYTES + header.length as usize;
    if rest.len() < end {
        return Scan::Torn("the file ends within a record");
    }
    if crc32c::crc32c(&rest[HEADER_BYTES..end]) != header.payload_crc {
        if has_zero_sector(file, offset, offset + end) {
            return Scan::Torn("a record was not written completely");
        }
        return Scan::Bad("a record has a wrong checksum");
    }
    Scan::Record(header)
}

/// Whether the part of some sector that lies in `start..end` is all zeros (as etcd's WAL decoder judges torn writes).
fn has_zero_sector(file: &[u8], start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if file[at..next].iter().all(|byte| *byte == 0) {
            return true;
        }
        at = next;
    }
    false
}

/// Whether any sound record after `from` says that the byte at `from` had been synced.
pub(crate) fn was_synced(file: &[u8], from: usize) -> bool {
    let last_start = file.len().saturating_sub(HEADER_BYTES);
    (from + 1..=last_start).any(|at| header(&file[at..]).is_some_and(|found| found.synced > from as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64, synced: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(payload);
        seal(&mut out, 0, index, synced);
        out
    }

    #[test]
    fn a_sealed_record_scans_as_itself() {
        let bytes = record(7, 24, b"hello");
        let Scan::Record(header) = scan(&bytes, 0) else {
            panic!("not a record");
        };
        assert_eq!((header.length, header.index, header.synced), (5, 7, 24));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = record(7, 24, b"some payload without zero bytes");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(scan(&damaged, 0), Scan::Bad(_)), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_torn() {
        let bytes = record(7, 24, b"payload");
        for length in 0..bytes.len() {
            assert!(matches!(scan(&bytes[..length], 0), Scan::Torn(_)), "{length}");
        }
    }

    #[test]
    fn a_later_record_proves_what_was_synced() {
        let mut bytes = record(1, 0, b"one");
        let second = bytes.len();
        bytes.extend(record(2, 0, b"two"));
        assert!(!was_synced(&bytes, 0));
        bytes.extend(record(3, second as u64, b"three"));
        assert!(was_synced(&bytes, 0));
        assert!(!was_synced(&bytes, second));
    }
}
