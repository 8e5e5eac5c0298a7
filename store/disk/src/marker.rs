//! The marker file `KEYSPACE`: that this directory is a keyspace, which generation of it is the valid one, and what
//! it has promised to hold. Replaced atomically; the rename of a new one is the commit point of a snapshot install.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use xebec_store_core::LogPosition;

use crate::DiskError;
use crate::encoding::FORMAT;

pub(crate) const MARKER_NAME: &str = "KEYSPACE";
const TITLE: &str = "xebec keyspace";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Which `db-<generation>` is valid.
    pub(crate) generation: u64,
    /// Raft may have purged its log up to here: the keyspace must never come back behind it.
    pub(crate) promised: Option<LogPosition>,
    /// RocksDB's manifest and its size when this was written; `None` before the database was made.
    pub(crate) manifest: Option<(String, u64)>,
    /// RocksDB's tables when this was written. RocksDB checks blocks of data itself, but not every byte of a table.
    pub(crate) tables: Tables,
}

/// Tables by name.
pub(crate) type Tables = BTreeMap<String, TableSum>;

/// What a table, which never changes, is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableSum {
    pub(crate) size_bytes: u64,
    pub(crate) crc32c: u32,
}

impl Marker {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(MARKER_NAME)
    }

    pub(crate) fn database_dir(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{DATABASE_PREFIX}{}", self.generation))
    }

    /// Reads the marker; `None` if there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Marker>, DiskError> {
        let path = Marker::path(dir);
        match fs::read(&path) {
            Ok(bytes) => Marker::parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError::Io { path, source }),
        }
    }

    /// Replaces the marker, durably.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), DiskError> {
        let path = Marker::path(dir);
        let temporary = dir.join(format!("{MARKER_NAME}.tmp"));
        let mut file = fs::File::create(&temporary).map_err(DiskError::io(&temporary))?;
        file.write_all(self.render().as_bytes()).map_err(DiskError::io(&temporary))?;
        file.sync_all().map_err(DiskError::io(&temporary))?;
        fs::rename(&temporary, &path).map_err(DiskError::io(&path))?;
        sync_dir(dir)
    }

    fn render(&self) -> String {
        let mut text = format!("{TITLE}\nformat {FORMAT}\ngeneration {}\n", self.generation);
        let mut line = |name: &str, value: Option<String>| {
            writeln!(text, "{name} {}", value.unwrap_or_else(|| "-".to_owned())).expect("a String takes any text");
        };
        line("promised", self.promised.map(|at| format!("{} {} {}", at.term, at.node, at.index)));
        line("manifest", self.manifest.as_ref().map(|(name, size)| format!("{name} {size}")));
        for (name, sum) in &self.tables {
            line("table", Some(format!("{name} {} {:08x}", sum.size_bytes, sum.crc32c)));
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c {checksum:08x}\n"));
        text
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Marker, DiskError> {
        let corrupt = |reason: &str| DiskError::corrupt(path, None, reason);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| DiskError::corrupt(path, u64::try_from(error.valid_up_to()).ok(), "not text"))?;
        let body_end = text.rfind("crc32c ").ok_or_else(|| {
            DiskError::corrupt(path, u64::try_from(text.len()).ok(), "truncated: the checksum line is missing")
        })?;
        let (body, tail) = text.split_at(body_end);
        let expected = format!("crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()));
        if tail != expected {
            return Err(corrupt("the checksum does not match"));
        }
        let mut lines = body.lines();
        if lines.next() != Some(TITLE) {
            return Err(corrupt("not a keyspace marker"));
        }
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or_else(|| corrupt(&format!("the line {name:?} is missing")))
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| corrupt(&format!("{text:?} is not a number")));
        let format = number(field("format")?)?;
        if format != u64::from(FORMAT) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(DiskError::Format { file: path.to_owned(), found, known: FORMAT });
        }
        let generation = number(field("generation")?)?;
        let promised = match field("promised")?.split(' ').collect::<Vec<_>>()[..] {
            ["-"] => None,
            [term, node, index] => {
                Some(LogPosition { term: number(term)?, node: number(node)?, index: number(index)? })
            }
            _ => return Err(corrupt("the line \"promised\" has the wrong number of fields")),
        };
        let manifest = match field("manifest")?.split(' ').collect::<Vec<_>>()[..] {
            ["-"] => None,
            [name, size] => Some((name.to_owned(), number(size)?)),
            _ => return Err(corrupt("the line \"manifest\" has the wrong number of fields")),
        };
        let tables = lines
            .map(|line| parse_table(line).ok_or_else(|| corrupt(&format!("{line:?} is not a table's line"))))
            .collect::<Result<Tables, DiskError>>()?;
        Ok(Marker { generation, promised, manifest, tables })
    }
}

fn parse_table(line: &str) -> Option<(String, TableSum)> {
    let [name, size, checksum] = line.strip_prefix("table ")?.split(' ').collect::<Vec<_>>()[..] else { return None };
    let sum = TableSum { size_bytes: size.parse().ok()?, crc32c: u32::from_str_radix(checksum, 16).ok()? };
    Some((name.to_owned(), sum))
}

pub(crate) const DATABASE_PREFIX: &str = "db-";

/// Makes what was created or renamed in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    fs::File::open(dir).and_then(|handle| handle.sync_all()).map_err(DiskError::io(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_any_flipped_byte_is_refused() {
        let marker = Marker {
            generation: 3,
            promised: Some(LogPosition { term: 4, node: 1, index: 99 }),
            manifest: Some(("MANIFEST-000005".to_owned(), 1234)),
            tables: [("000012.sst".to_owned(), TableSum { size_bytes: 77, crc32c: 0xabc })].into(),
        };
        let dir = tempfile::tempdir().unwrap();
        marker.write(dir.path()).unwrap();
        assert_eq!(Marker::read(dir.path()).unwrap(), Some(marker));
        let path = Marker::path(dir.path());
        let bytes = fs::read(&path).unwrap();
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert!(Marker::parse(&path, &flipped).is_err(), "byte {index}");
            assert!(Marker::parse(&path, &bytes[..index]).is_err(), "truncated to {index}");
        }
    }
}
