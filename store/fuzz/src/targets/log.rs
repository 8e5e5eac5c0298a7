//! The Raft log's directory.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use anyhow::{Result, anyhow};
use parking_lot::Mutex;
use xebec_store_log::{File, Files, Lock, Work};
use xebec_store_raft::fuzzing::{log_payloads, read_log};

use super::{Target, outcome, peer};
use crate::input::{Input, Part};

/// Kinds of parts. A record goes into the segment that was begun last.
const SOUND_RECORD: u16 = 0;
const RAW_BYTES: u16 = 1;
const NEW_SEGMENT: u16 = 2;
const SOUND_STATE: u16 = 3;
const RAW_STATE: u16 = 4;
const SOUND_HINT: u16 = 5;
const RAW_HINT: u16 = 6;
const KINDS: u16 = 7;

/// Opens the log and reads it, from files that an input describes: with the right checksums where a bare change would
/// never get past them.
pub struct LogFiles;

#[derive(Debug)]
struct MemoryFile(Mutex<Vec<u8>>);

#[derive(Debug, Default)]
struct MemoryFiles(Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>);

impl File for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut contents, offset) = (self.0.lock(), offset as usize);
        let end = offset + bytes.len();
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = self.0.lock();
        let range = offset as usize..offset as usize + bytes.len();
        bytes.copy_from_slice(contents.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().resize(bytes as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryFiles {
    fn put(&self, name: &str, contents: Vec<u8>) {
        self.0.lock().insert(Path::new("log").join(name), Arc::new(MemoryFile(Mutex::new(contents))));
    }
}

impl Files for MemoryFiles {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.lock().keys().cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let files = self.0.lock();
        Ok(files.get(path).ok_or(io::ErrorKind::NotFound)?.0.lock().clone())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile(Mutex::default()));
        self.0.lock().insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let found = self.0.lock().get(path).cloned();
        match found {
            Some(file) => Ok(file),
            None if create => self.create(path),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }

    /// Nothing is written here: the writer does not run.
    fn start(&self, _: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>> {
        Ok(None)
    }
}

/// `magic | format | first index | crc32c` (`store/log/src/segment.rs`).
fn segment_header(first_index: u64) -> Vec<u8> {
    let mut header = b"XEBECLOG".to_vec();
    header.extend_from_slice(&1u32.to_le_bytes());
    header.extend_from_slice(&first_index.to_le_bytes());
    append_crc(&mut header);
    header
}

/// `length | index | synced | payload crc32c | header crc32c | payload` (`store/log/src/record.rs`).
fn record(index: u64, synced: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&synced.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    append_crc(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn append_crc(bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn files_of(input: &Input) -> MemoryFiles {
    let files = MemoryFiles::default();
    let (mut index, mut first, mut segment) = (0u64, 0u64, segment_header(0));
    for Part { kind, bytes } in &input.parts {
        match kind % KINDS {
            SOUND_RECORD => {
                // What else the kind says moves the index, or what is said to be synced.
                let at = if kind / KINDS % 16 == 1 { index.wrapping_add(u64::from(kind >> 8)) } else { index };
                let synced = if kind / KINDS % 16 == 2 { segment.len() as u64 } else { 0 };
                segment.extend(record(at, synced, bytes));
                index = index.wrapping_add(1);
            }
            RAW_BYTES => segment.extend_from_slice(bytes),
            NEW_SEGMENT => {
                files.put(&format!("{first:020}.seg"), std::mem::take(&mut segment));
                if let Some(given) = bytes.first_chunk() {
                    index = u64::from_le_bytes(*given);
                }
                (first, segment) = (index, segment_header(index));
            }
            SOUND_STATE => {
                let mut state = b"XEBECVOT".to_vec();
                state.extend_from_slice(&1u32.to_le_bytes());
                state.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
                state.extend_from_slice(bytes);
                files.put("state", state);
            }
            RAW_STATE => files.put("state", bytes.clone()),
            SOUND_HINT => {
                let (number, marker) = bytes.split_at(bytes.len().min(8));
                let mut hint = [0; 8];
                hint[..number.len()].copy_from_slice(number);
                let mut hint = hint.to_vec();
                hint.extend_from_slice(&(marker.len() as u32).to_le_bytes());
                hint.extend_from_slice(marker);
                append_crc(&mut hint);
                files.put("committed", hint);
            }
            _ => files.put("committed", bytes.clone()),
        }
    }
    files.put(&format!("{first:020}.seg"), segment);
    files
}

impl Target for LogFiles {
    fn seeds(&self) -> Result<Vec<Input>> {
        let payloads = log_payloads(&peer::commands()).map_err(|error| anyhow!(error))?;
        let records = || payloads.iter().map(|payload| Part::new(SOUND_RECORD, payload.clone()));
        let mut with_segments: Vec<Part> = records().collect();
        with_segments.insert(2, Part::new(NEW_SEGMENT, []));
        with_segments.insert(5, Part::new(NEW_SEGMENT, []));
        // bincode of (vote, purged, floor): none, none, 0.
        with_segments.push(Part::new(SOUND_STATE, [0u8; 10]));
        let mut hint = 1u64.to_le_bytes().to_vec();
        hint.extend_from_slice(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        with_segments.push(Part::new(SOUND_HINT, hint));
        let mut torn: Vec<Part> = records().collect();
        torn.push(Part::new(RAW_BYTES, [0u8; 600]));
        torn.push(Part::new(RAW_STATE, *b"XEBECVOT"));
        torn.push(Part::new(RAW_HINT, [0u8; 16]));
        Ok(vec![Input { parts: records().collect() }, Input { parts: with_segments }, Input { parts: torn }])
    }

    fn run(&mut self, input: &Input) -> u64 {
        match read_log(Arc::new(files_of(input)), Path::new("log")) {
            Ok(entries) => entries.min(8),
            Err(reason) => outcome(reason.rsplit(':').next().unwrap_or_default()),
        }
    }
}
