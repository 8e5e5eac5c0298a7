//! Segment files: a header, then consecutive records.
//!
//! ```text
//! magic "XEBECLOG" | format u32 | first index u64 | header crc32c u32 | records
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    error::LogError,
    files::{File, Files},
    record::{self, HEADER_BYTES, Scan},
};

/// Bytes before a segment's first record.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 24;
/// Version of the segment format.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"XEBECLOG";
const EXTENSION: &str = "seg";

/// A segment file and where its records start.
#[derive(Debug)]
pub(crate) struct Segment {
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub first_index: u64,
    /// Offset of each record; position 0 is `first_index`.
    pub offsets: Vec<u32>,
    pub size_bytes: u64,
}

impl Segment {
    /// Creates an empty segment and makes its existence durable.
    pub fn create(files: &dyn Files, dir: &Path, first_index: u64) -> Result<Self, LogError> {
        let path = dir.join(format!("{first_index:020}.{EXTENSION}"));
        let file = files.create(&path).map_err(LogError::io(&path))?;
        file.write_all_at(&segment_header(first_index), 0)
            .and_then(|()| file.sync_all())
            .map_err(LogError::io(&path))?;
        sync_dir(files, dir)?;
        Ok(Self { path, file, first_index, offsets: Vec::new(), size_bytes: SEGMENT_HEADER_BYTES as u64 })
    }

    /// Reads and verifies a segment. With `last`, a torn tail is cut off (and the cut made durable); a file whose very
    /// header is torn is removed and `None` returned.
    pub fn open(files: &dyn Files, path: &Path, first_index: u64, last: bool) -> Result<Option<Self>, LogError> {
        let bytes = files.read(path).map_err(LogError::io(path))?;
        if bytes.get(..SEGMENT_HEADER_BYTES) != Some(&segment_header(first_index)) {
            if last && bytes.len() <= SEGMENT_HEADER_BYTES && !bytes.iter().any(|byte| *byte != 0) {
                tracing::warn!(path = %path.display(), "removing a segment that was never written");
                files.remove(path).map_err(LogError::io(path))?;
                return Ok(None);
            }
            return Err(header_error(path, &bytes, first_index));
        }
        let (offsets, end) = Self::scan(path, &bytes, first_index, last)?;
        let file = files.open(path, false).map_err(LogError::io(path))?;
        if end < bytes.len() {
            file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(LogError::io(path))?;
        }
        Ok(Some(Self { path: path.to_path_buf(), file, first_index, offsets, size_bytes: end as u64 }))
    }

    /// The offsets of all sound records and where they end.
    fn scan(path: &Path, bytes: &[u8], first_index: u64, last: bool) -> Result<(Vec<u32>, usize), LogError> {
        let mut offsets = Vec::new();
        let mut at = SEGMENT_HEADER_BYTES;
        while at < bytes.len() {
            match record::scan(bytes, at) {
                Scan::Record(header) => {
                    let expected = first_index + offsets.len() as u64;
                    if header.index != expected {
                        let reason = format!("entry {} where {expected} belongs", header.index);
                        return Err(LogError::corrupt(path, at as u64, reason));
                    }
                    offsets.push(at as u32);
                    at += HEADER_BYTES + header.length as usize;
                }
                Scan::Torn(reason) if last && !record::was_synced(bytes, at) => {
                    tracing::warn!(path = %path.display(), offset = at, cut_bytes = bytes.len() - at, reason, "cutting off a torn write");
                    break;
                }
                Scan::Torn(reason) | Scan::Bad(reason) => {
                    return Err(LogError::corrupt(path, at as u64, reason));
                }
            }
        }
        Ok((offsets, at))
    }

    /// Index after the last record.
    pub fn next_index(&self) -> u64 {
        self.first_index + self.offsets.len() as u64
    }

    /// Where the records `from..to` lie. Both must be in this segment.
    pub fn extent(&self, from: u64, to: u64) -> Extent {
        let at = |index: u64| {
            self.offsets.get((index - self.first_index) as usize).map_or(self.size_bytes, |offset| u64::from(*offset))
        };
        Extent { path: self.path.clone(), file: self.file.clone(), first_index: from, start: at(from), end: at(to) }
    }

    /// Drops the records from `index` on; durable when it returns.
    pub fn truncate(&mut self, index: u64) -> Result<(), LogError> {
        let keep = index.saturating_sub(self.first_index) as usize;
        if let Some(offset) = self.offsets.get(keep).copied() {
            self.file
                .set_len(u64::from(offset))
                .and_then(|()| self.file.sync_all())
                .map_err(LogError::io(&self.path))?;
            self.offsets.truncate(keep);
            self.size_bytes = u64::from(offset);
        }
        Ok(())
    }
}

/// A run of records on disk.
#[derive(Debug)]
pub(crate) struct Extent {
    path: PathBuf,
    file: Arc<dyn File>,
    first_index: u64,
    start: u64,
    end: u64,
}

impl Extent {
    pub fn len_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Reads the payloads and verifies them again.
    pub fn read(&self) -> Result<Vec<Bytes>, LogError> {
        let mut buffer = vec![0; self.len_bytes() as usize];
        self.file.read_exact_at(&mut buffer, self.start).map_err(LogError::io(&self.path))?;
        let buffer = Bytes::from(buffer);
        let mut payloads = Vec::new();
        let mut at = 0;
        while at < buffer.len() {
            let Some(header) = record::header(&buffer[at..]) else {
                return Err(self.damaged(at, "a record's header has a wrong checksum"));
            };
            let end = at + HEADER_BYTES + header.length as usize;
            if end > buffer.len() || header.index != self.first_index + payloads.len() as u64 {
                return Err(self.damaged(at, "another record than expected"));
            }
            let payload = buffer.slice(at + HEADER_BYTES..end);
            if crc32c::crc32c(&payload) != header.payload_crc {
                return Err(self.damaged(at, "a record has a wrong checksum"));
            }
            payloads.push(payload);
            at = end;
        }
        Ok(payloads)
    }

    pub fn damaged(&self, at: usize, reason: impl Into<String>) -> LogError {
        LogError::corrupt(&self.path, self.start + at as u64, reason)
    }
}

fn segment_header(first_index: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[0..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&first_index.to_le_bytes());
    let crc = crc32c::crc32c(&header[0..20]);
    header[20..24].copy_from_slice(&crc.to_le_bytes());
    header
}

fn header_error(path: &Path, bytes: &[u8], first_index: u64) -> LogError {
    let expected = segment_header(first_index);
    let same = bytes.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let reason = match bytes.get(8..12) {
        _ if bytes.len() < SEGMENT_HEADER_BYTES => "the file ends within the segment's header".to_owned(),
        Some(format) if bytes.starts_with(MAGIC) && format != FORMAT.to_le_bytes() => {
            format!("unknown segment format {format:?}, this version reads {FORMAT}")
        }
        _ => "the segment's header is damaged".to_owned(),
    };
    LogError::corrupt(path, same as u64, reason)
}

/// The segments of a directory as (first index, path), in order.
pub(crate) fn list(files: &dyn Files, dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut found = Vec::new();
    for path in files.list(dir).map_err(LogError::io(dir))? {
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let index = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let index = index.ok_or_else(|| LogError::corrupt(&path, 0, "not the name of a segment"))?;
        found.push((index, path));
    }
    found.sort();
    Ok(found)
}

/// Makes creations, renames and removals in `dir` durable.
pub(crate) fn sync_dir(files: &dyn Files, dir: &Path) -> Result<(), LogError> {
    files.sync_dir(dir).map_err(LogError::io(dir))
}
