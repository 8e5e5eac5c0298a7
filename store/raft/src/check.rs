//! Verifying a data directory offline: nothing in it is changed.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use xebec_store_disk::Verified;
use xebec_store_log::{File, Files, LocalFiles, Lock, Log, LogOptions, Work};

use crate::log_store::StoredEntry;

/// Bytes of entries decoded at once.
const READ_BYTES_MAX: usize = 16 << 20;

/// What was found. A directory is sound if there are no problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is sound, for people.
    pub sound: Vec<String>,
    /// The first problem of each part, with file and offset as far as they are known.
    pub problems: Vec<String>,
}

/// What the log holds.
struct LogFacts {
    first: u64,
    last: Option<u64>,
    floor: u64,
}

/// Verifies the identity, every record of the log, the keyspace with every checksum, and that log and keyspace fit.
/// The member must not be running.
pub fn check_data(data_dir: &Path) -> CheckReport {
    let dir = data_dir.join("member");
    let mut report = CheckReport::default();
    if !dir.is_dir() {
        report.problems.push(format!("{}: no member's data here", dir.display()));
        return report;
    }
    match check_identity(&dir.join("identity")) {
        Ok(()) => report.sound.push("identity: sound".to_owned()),
        Err(problem) => report.problems.push(problem),
    }
    let log = check_log(&dir.join("log"));
    let keyspace = xebec_store_disk::verify(&dir.join("keyspace"));
    match &log {
        Ok(LogFacts { first, last: Some(last), .. }) if first <= last => {
            report.sound.push(format!("log: sound, entries {first} to {last}"));
        }
        Ok(LogFacts { first, .. }) => report.sound.push(format!("log: sound, no entries before {first}")),
        Err(problem) => report.problems.push(format!("log: {problem}")),
    }
    match &keyspace {
        Ok(Verified { revision, compacted, keys, versions, .. }) => report.sound.push(format!(
            "keyspace: sound, revision {revision}, compacted {compacted}, {keys} keys, {versions} versions"
        )),
        Err(error) => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            report.problems.push(format!("keyspace: {error}{cause}"));
        }
    }
    if let (Ok(log), Ok(keyspace)) = (&log, &keyspace) {
        match agree(log, keyspace) {
            Ok(agreement) => report.sound.push(agreement),
            Err(problem) => report.problems.push(format!("{}: {problem}", dir.display())),
        }
    }
    report
}

fn agree(log: &LogFacts, keyspace: &Verified) -> Result<String, String> {
    let applied = keyspace.position.map_or(0, |position| position.index);
    let promised = keyspace.promised.map_or(0, |position| position.index);
    let last = log.last.unwrap_or(0);
    if applied > last && applied > log.floor {
        return Err(format!(
            "the log ends at entry {last}, but entry {applied} was applied: the log was cut or replaced"
        ));
    }
    if log.first > applied + 1 && log.first > 0 {
        let first = log.first;
        return Err(format!("the log begins at entry {first}, but the keyspace ends at entry {applied}"));
    }
    Ok(format!("log and keyspace agree: applied up to entry {applied}, durable up to entry {promised}"))
}

/// The file ends with the checksum of what stands before.
fn check_identity(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(format!("{}: offset {}: cut short", path.display(), bytes.len()));
    };
    if crc32c::crc32c(body).to_le_bytes() != *crc {
        return Err(format!("{}: offset {}: wrong checksum", path.display(), body.len()));
    }
    Ok(())
}

fn check_log(dir: &Path) -> Result<LogFacts, String> {
    if !dir.is_dir() {
        return Err(format!("{}: the directory is missing", dir.display()));
    }
    let text = |error: xebec_store_log::LogError| error.to_string();
    let log: Log<StoredEntry> = Log::open_in(Arc::new(LookOnly), LogOptions::new(dir)).map_err(text)?;
    let facts = LogFacts { first: log.first_index(), last: log.last_index(), floor: log.floor() };
    let mut next = facts.first;
    while facts.last.is_some_and(|last| next <= last) {
        let end = facts.last.unwrap_or(next) + 1;
        let entries = log.read(next..end, READ_BYTES_MAX).map_err(text)?;
        if entries.is_empty() {
            return Err(format!("{}: entry {next} cannot be read", dir.display()));
        }
        next += entries.len() as u64;
    }
    Ok(facts)
}

/// The machine's files, to be looked at and never changed: what would be written is passed over.
#[derive(Clone, Copy, Debug)]
struct LookOnly;

/// A file to be looked at.
struct LookOnlyFile(Option<fs::File>, PathBuf);

impl fmt::Debug for LookOnlyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LookOnlyFile").field(&self.1).finish()
    }
}

impl File for LookOnlyFile {
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            Some(file) => std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Files for LookOnly {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        LocalFiles.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(LookOnlyFile(None, path.to_owned())))
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        match fs::File::open(path) {
            Ok(file) => Ok(Arc::new(LookOnlyFile(Some(file), path.to_owned()))),
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => self.create(path),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        match fs::File::open(path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(Some(Box::new(file))),
                Err(fs::TryLockError::WouldBlock) => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error),
            },
            // Nobody holds what is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Box::new(()))),
            Err(error) => Err(error),
        }
    }

    /// Nothing is written, so nobody has to write it.
    fn start(&self, _: Box<dyn Work>) -> io::Result<Option<JoinHandle<()>>> {
        Ok(None)
    }
}
