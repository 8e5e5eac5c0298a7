use std::fs;
use std::path::Path;
use std::sync::Arc;

use rocksdb::ReadTier;
use serde::{Deserialize, Serialize};
use xebec_store_core::{LogPosition, ReadView, Revision};

use crate::database::{Database, measure};
use crate::keyspace::{check_state, vouch};
use crate::marker::{Marker, TableSum, sync_dir};
use crate::{DiskError, Keyspace, View};

/// A whole keyspace as files, at one position of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The last log entry in it.
    pub position: Option<LogPosition>,
    /// The membership in it.
    pub membership: Option<Vec<u8>>,
    /// The keyspace's revision in it.
    pub revision: Revision,
    /// All its files.
    pub files: Vec<CheckpointFile>,
}

/// One file of a [`Checkpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFile {
    /// Its name within the checkpoint's directory: no path.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The CRC-32C of its contents.
    pub crc32c: u32,
}

impl Keyspace {
    /// Makes a checkpoint in `dir`, which must not exist and is best on the same file system: tables are then linked,
    /// not copied. Writers are not held up. The caller removes `dir` when it is no longer needed.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, DiskError> {
        let view = self.view();
        let database = view.database();
        // Flushes first, since there is no write-ahead log to take along.
        rocksdb::checkpoint::Checkpoint::new(database.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(|error| database.error(error))?;
        if self.options.compacts_inline {
            database.settle()?;
        }
        let taken = Arc::new(Database::open_read_only(dir, self.options.block_cache_bytes)?);
        let state = taken
            .read_state(ReadTier::All)?
            .ok_or_else(|| DiskError::corrupt(dir, None, "the state record is missing"))?;
        let taken = View::new(taken, state);
        let membership = taken.membership()?.map(Vec::from);
        let (position, revision) = (taken.position(), taken.current_revision());
        drop(taken);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(DiskError::io(dir))? {
            let entry = entry.map_err(DiskError::io(dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_part_of_checkpoint(&name) {
                let TableSum { size_bytes, crc32c } = measure(&entry.path())?;
                files.push(CheckpointFile { name, size_bytes, crc32c });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Checkpoint { position, membership, revision, files })
    }

    /// Replaces the keyspace by the checkpoint in `dir`, whose files are checked first. Crash-safe: before the marker
    /// is renamed the old keyspace is valid, after it the new one, and the next open removes the other. Views that are
    /// still held keep showing the old one. `dir` itself is left alone.
    ///
    /// # Errors
    /// [`DiskError::Corrupt`] names a file of `dir` that is not what the checkpoint says; the keyspace is then
    /// unchanged.
    pub fn install_checkpoint(&self, dir: &Path, checkpoint: &Checkpoint) -> Result<(), DiskError> {
        let _writer = self.writer.lock();
        let mut marker = self.marker.lock();
        let tables = checkpoint.files.iter().filter(|file| file.name.ends_with(".sst"));
        let next = Marker {
            generation: marker.generation + 1,
            promised: checkpoint.position,
            manifest: None,
            tables: tables
                .map(|file| (file.name.clone(), TableSum { size_bytes: file.size_bytes, crc32c: file.crc32c }))
                .collect(),
        };
        let target = next.database_dir(&self.dir);
        if target.exists() {
            fs::remove_dir_all(&target).map_err(DiskError::io(&target))?;
        }
        fs::create_dir(&target).map_err(DiskError::io(&target))?;
        for file in &checkpoint.files {
            bring_in(dir, &target, file)?;
        }
        sync_dir(&target)?;
        sync_dir(&self.dir)?;
        let database = Arc::new(Database::open(&target, false, &self.options)?);
        let state = check_state(&database, &next, &self.options)?;
        if state.position != checkpoint.position || state.revision != checkpoint.revision {
            let reason = format!(
                "the checkpoint is at {:?} and revision {}, not at {:?} and {}",
                state.position, state.revision, checkpoint.position, checkpoint.revision
            );
            return Err(DiskError::corrupt(dir, None, reason));
        }
        *marker = vouch(&self.dir, &database, next)?;
        let replaced = self.view();
        self.publish(database, state);
        self.digests.lock().clear();
        self.hashes.lock().clear();
        replaced.database().mark_replaced();
        Ok(())
    }
}

/// RocksDB's own log and lock are not data; options are what this program passes at every open.
fn is_part_of_checkpoint(name: &str) -> bool {
    name == "CURRENT" || name == "IDENTITY" || name.starts_with("MANIFEST-") || name.ends_with(".sst")
}

/// Brings one file of a checkpoint into the new database's directory, durably and checked.
fn bring_in(from: &Path, target: &Path, file: &CheckpointFile) -> Result<(), DiskError> {
    // A name comes from another member: it must not lead anywhere else.
    if !is_part_of_checkpoint(&file.name) || file.name.contains(['/', '\\']) {
        return Err(DiskError::corrupt(from.join(&file.name), None, "not a name of a checkpoint's file"));
    }
    let source = from.join(&file.name);
    if !source.exists() {
        return Err(DiskError::corrupt(source, None, "the file is missing"));
    }
    let TableSum { size_bytes, crc32c } = measure(&source)?;
    if size_bytes != file.size_bytes {
        let reason = format!("{} bytes were sent", file.size_bytes);
        return Err(DiskError::corrupt(source, Some(size_bytes), reason));
    }
    if crc32c != file.crc32c {
        return Err(DiskError::corrupt(source, None, "the checksum does not match"));
    }
    let destination = target.join(&file.name);
    // Tables never change, so a link will do; RocksDB may append to the others.
    let linked = file.name.ends_with(".sst") && fs::hard_link(&source, &destination).is_ok();
    if !linked {
        fs::copy(&source, &destination).map_err(DiskError::io(&destination))?;
    }
    let handle = fs::File::open(&destination).map_err(DiskError::io(&destination))?;
    handle.sync_all().map_err(DiskError::io(&destination))
}
