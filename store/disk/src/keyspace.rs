use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::ReadTier;
use xebec_planted::{PlantedBug, is_planted};
use xebec_store_core::{Applied, LogPosition, Revision};

use crate::auth;
use crate::batch::Batch;
use crate::database::{Database, verify_tables};
use crate::manifest;
use crate::marker::{DATABASE_PREFIX, MARKER_NAME, Marker, Tables, sync_dir};
use crate::options::{Column, Options};
use crate::state::{LOG_KEPT_NAME, State};
use crate::{DiskError, HashKv, View};

/// The keyspace on disk. All methods take `&self`; one writer at a time is let in, readers never wait.
///
/// Everything but [`Keyspace::view`], [`Keyspace::applied`] and [`Keyspace::durable_position`] may block on the disk.
pub struct Keyspace {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// Held by whoever changes the keyspace.
    pub(crate) writer: Mutex<()>,
    /// The latest commit. Published by the writer, so that readers share one snapshot and see whole commits only.
    pub(crate) published: ArcSwap<View>,
    pub(crate) marker: Mutex<Marker>,
    /// The newest hashes of the history.
    pub(crate) hashes: Mutex<VecDeque<HashKv>>,
    /// The digests after the newest revisions, in order.
    pub(crate) digests: Mutex<VecDeque<(Revision, u64)>>,
    /// How far the member's own log is on disk, as it was last told.
    log_kept: AtomicU64,
}

impl Keyspace {
    /// Opens the keyspace in `dir`, or makes an empty one if `dir` is empty or missing.
    ///
    /// # Errors
    /// [`DiskError::Corrupt`] names the file that is damaged, truncated or missing; nothing is repaired or reset.
    /// [`DiskError::Locked`], [`DiskError::Format`], [`DiskError::OtherCluster`] as they say.
    pub fn open(dir: &Path, options: Options) -> Result<Keyspace, DiskError> {
        fs::create_dir_all(dir).map_err(DiskError::io(dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // What is synced in a directory is lost with the directory's own name.
            sync_dir(parent)?;
        }
        let marker = match Marker::read(dir)? {
            Some(marker) => marker,
            None => begin(dir)?,
        };
        let database_dir = marker.database_dir(dir);
        let database = match &marker.manifest {
            None => create(&database_dir, &options)?,
            Some(recorded) => {
                require_dir(&database_dir)?;
                manifest::check(&database_dir, recorded)?;
                verify_tables(&database_dir, &marker.tables, options.verify_bytes_max)?;
                Database::open(&database_dir, false, &options)
                    .map_err(|error| name_suspects(error, &database_dir, &marker.tables))?
            }
        };
        let mut state = check_state(&database, &marker, &options)?;
        if is_planted(PlantedBug::ReuseRevision) && marker.manifest.is_some() && state.revision > state.compacted {
            state.revision.0 -= 1;
        }
        if database.disk_bytes()? <= options.verify_bytes_max {
            database.verify()?;
        }
        remove_leftovers(dir, &database_dir)?;
        let database = Arc::new(database);
        let marker = vouch(dir, &database, marker)?;
        Ok(Keyspace {
            dir: dir.to_owned(),
            options,
            writer: Mutex::new(()),
            published: ArcSwap::from_pointee(View::new(database, state)),
            marker: Mutex::new(marker),
            hashes: Mutex::default(),
            digests: Mutex::default(),
            log_kept: AtomicU64::new(0),
        })
    }

    /// The latest commit. Never waits.
    pub fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    /// The last log entry that was committed here, and the last membership.
    ///
    /// # Errors
    /// If the membership cannot be read.
    pub fn applied(&self) -> Result<(Option<LogPosition>, Option<Bytes>), DiskError> {
        let view = self.view();
        Ok((view.position(), view.membership()?))
    }

    /// Commits applied commands, the position of the last log entry among them and, if given, a membership, in one
    /// atomic write. Entries without a command commit with an empty list.
    ///
    /// Not synced: what a crash takes, Raft applies again, as long as its log is kept behind
    /// [`Keyspace::durable_position`].
    ///
    /// # Errors
    /// [`DiskError::OutOfOrder`] and [`DiskError::RevisionGap`] if the commands were not applied to the state as it
    /// is. After any error the member must stop applying.
    pub fn commit(
        &self,
        position: LogPosition,
        membership: Option<&[u8]>,
        applied: &[Applied],
    ) -> Result<(), DiskError> {
        let writer = self.writer.lock();
        let before = self.view();
        if let Some(applied) = before.position().filter(|applied| applied.index >= position.index) {
            return Err(DiskError::OutOfOrder { position, applied });
        }
        let mut batch = Batch::new(before.database(), before.state().clone());
        for applied in applied {
            batch.add(applied)?;
        }
        if let Some(membership) = membership {
            batch.set_membership(membership);
        }
        batch.state_mut().position = Some(position);
        let digests = batch.take_digests();
        // What was not applied yet may still be truncated: it is no evidence of anything.
        batch.set_log_kept(self.log_kept.load(Ordering::Acquire).min(position.index));
        let state = batch.write()?;
        before.database().recent().observe(applied);
        self.remember_digests(digests);
        self.publish(Arc::clone(before.database()), state);
        drop(writer);
        Ok(())
    }

    /// Tells how far this member's own log is on disk; it goes with the next commits. Must never be more than is there.
    pub fn note_log_kept(&self, index: u64) {
        self.log_kept.store(index, Ordering::Release);
    }

    /// The last entry among the applied ones that this member's own log had on disk when the keyspace was committed; 0
    /// if none is known. A log that ends before it was cut or replaced. After a checkpoint was installed this is the other
    /// member's word until the next commit, and lies within the checkpoint.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log_kept(&self) -> Result<u64, DiskError> {
        let view = self.view();
        let Some(found) = view.read(Column::Meta, LOG_KEPT_NAME)? else {
            return Ok(0);
        };
        let index = found.as_ref().try_into().map_err(|_| view.database().malformed(Column::Meta))?;
        Ok(u64::from_be_bytes(index))
    }

    /// The position up to which the keyspace comes back after any crash: Raft may purge its log this far and no
    /// further.
    pub fn durable_position(&self) -> Option<LogPosition> {
        self.marker.lock().promised
    }

    /// Brings what was committed to disk, so that [`Keyspace::durable_position`] reaches at least the position at the
    /// call, and returns it.
    ///
    /// # Errors
    /// If the disk refuses; the durable position stays.
    pub fn make_durable(&self) -> Result<Option<LogPosition>, DiskError> {
        let view = self.view();
        view.database().flush()?;
        if self.options.compacts_inline {
            view.database().compact_inline()?;
        }
        let persisted = view.database().read_state(ReadTier::Persisted)?;
        let position = persisted.and_then(|state| state.position);
        let mut marker = self.marker.lock();
        if !Arc::ptr_eq(self.published.load().database(), view.database()) {
            // A checkpoint was installed meanwhile; it came with a promise of its own.
            return Ok(marker.promised);
        }
        let promised = position.max(marker.promised);
        *marker = vouch(&self.dir, view.database(), Marker { promised, ..marker.clone() })?;
        Ok(marker.promised)
    }

    pub(crate) fn publish(&self, database: Arc<Database>, state: State) {
        self.published.store(Arc::new(View::new(database, state)));
    }
}

impl Drop for Keyspace {
    /// Closes the database, and vouches for the tables that RocksDB has made since the last time. After a crash those
    /// are checked by RocksDB alone.
    fn drop(&mut self) {
        let view = self.view();
        // Flushes what is in memory.
        view.database().db().cancel_all_background_work(true);
        let marker = self.marker.lock().clone();
        if let Err(error) = vouch(&self.dir, view.database(), marker) {
            tracing::warn!(dir = %self.dir.display(), %error, "noting the closed keyspace's files failed");
        }
    }
}

/// The first marker of an empty directory. From here on a crash is recognised: the marker knows of no database yet.
fn begin(dir: &Path) -> Result<Marker, DiskError> {
    for entry in fs::read_dir(dir).map_err(DiskError::io(dir))? {
        let name = entry.map_err(DiskError::io(dir))?.file_name();
        if name.to_string_lossy().starts_with(DATABASE_PREFIX) {
            let reason = format!("the file is missing, but {} is there", name.to_string_lossy());
            return Err(DiskError::corrupt(dir.join(MARKER_NAME), None, reason));
        }
    }
    let marker = Marker { generation: 1, promised: None, manifest: None, tables: Tables::new() };
    marker.write(dir)?;
    Ok(marker)
}

/// Makes an empty database; what an interrupted attempt left has promised nothing and is removed.
fn create(database_dir: &Path, options: &Options) -> Result<Database, DiskError> {
    if database_dir.exists() {
        fs::remove_dir_all(database_dir).map_err(DiskError::io(database_dir))?;
    }
    let database = Database::open(database_dir, true, options)?;
    Batch::new(&database, State::empty(options.cluster_id)).write()?;
    database.flush()?;
    Ok(database)
}

/// RocksDB does not always say which table it cannot read, and then blames the manifest, which was found to be whole. It is
/// one that nobody has vouched for: the others were checked before.
fn name_suspects(error: DiskError, dir: &Path, vouched: &Tables) -> DiskError {
    let is_manifest =
        |file: &Path| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-"));
    match error {
        DiskError::Corrupt { file, reason, .. } if is_manifest(&file) => {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let mut suspects: Vec<_> =
                names.filter(|name| name.ends_with(".sst") && !vouched.contains_key(name)).collect();
            suspects.sort();
            match &suspects[..] {
                [] => DiskError::corrupt(file, None, reason),
                [only] => DiskError::corrupt(dir.join(only), None, reason),
                _ => DiskError::corrupt(dir, None, format!("one of {}: {reason}", suspects.join(", "))),
            }
        }
        error => error,
    }
}

fn require_dir(database_dir: &Path) -> Result<(), DiskError> {
    if database_dir.is_dir() { Ok(()) } else { Err(DiskError::corrupt(database_dir, None, "the directory is missing")) }
}

/// The state, if it is what the marker promised.
pub(crate) fn check_state(database: &Database, marker: &Marker, options: &Options) -> Result<State, DiskError> {
    let Some(mut state) = database.read_state(ReadTier::All)? else {
        return Err(DiskError::corrupt(database.dir(), None, "the state record is missing"));
    };
    state.auth = Arc::new(auth::load(database)?);
    if options.cluster_id != 0 && state.cluster_id != 0 && state.cluster_id != options.cluster_id {
        return Err(DiskError::OtherCluster {
            dir: database.dir().to_owned(),
            found: state.cluster_id,
            expected: options.cluster_id,
        });
    }
    let index = |position: Option<LogPosition>| position.map_or(0, |position| position.index);
    if index(state.position) < index(marker.promised) {
        let manifest = database.dir().join(manifest::current_manifest(database.dir())?);
        let reason = format!(
            "describes the keyspace at log index {}, but index {} was durable",
            index(state.position),
            index(marker.promised)
        );
        return Err(DiskError::corrupt(manifest, None, reason));
    }
    Ok(state)
}

/// Notes in the marker what is on disk now, for the marker's generation and promise. Tables that the marker knows
/// already are not read again.
pub(crate) fn vouch(dir: &Path, database: &Database, marker: Marker) -> Result<Marker, DiskError> {
    let name = manifest::current_manifest(database.dir())?;
    let path = database.dir().join(&name);
    let size = fs::metadata(&path).map_err(DiskError::io(&path))?.len();
    let tables = database.sum_tables(&marker.tables)?;
    let marker = Marker { manifest: Some((name, size)), tables, ..marker };
    marker.write(dir)?;
    Ok(marker)
}

/// Removes databases of other generations: replaced ones, and snapshots whose installation was interrupted.
fn remove_leftovers(dir: &Path, database_dir: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(dir).map_err(DiskError::io(dir))? {
        let entry = entry.map_err(DiskError::io(dir))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(DATABASE_PREFIX) && path != database_dir {
            fs::remove_dir_all(&path).map_err(DiskError::io(&path))?;
        }
    }
    sync_dir(dir)
}

/// Views and the keyspace are shared between threads freely.
const _: fn() = || {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Keyspace>();
    is_shared::<View>();
};
