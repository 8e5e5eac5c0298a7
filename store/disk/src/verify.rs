use std::path::Path;
use std::sync::Arc;

use xebec_store_core::{LogPosition, ReadView, Revision};

use crate::database::{Database, verify_tables};
use crate::encoding;
use crate::manifest;
use crate::marker::{MARKER_NAME, Marker};
use crate::options::{BLOCK_CACHE_BYTES, Column, Options};
use crate::versions::VersionChange;
use crate::{DiskError, View};

/// What a keyspace that was read through holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The last log entry in it.
    pub position: Option<LogPosition>,
    /// The last log entry that is in it after any crash.
    pub promised: Option<LogPosition>,
    /// Its revision.
    pub revision: Revision,
    /// Its compacted revision.
    pub compacted: Revision,
    /// Living keys.
    pub keys: u64,
    /// Versions and deletions that are kept.
    pub versions: u64,
}

/// Reads the keyspace in `dir` through and changes nothing: the marker, RocksDB's manifest, every byte of every table
/// against its checksum, every record, and that the column families agree with each other.
///
/// # Errors
/// [`DiskError::Corrupt`] names the first bad file, with the offset where it is known.
pub fn verify(dir: &Path) -> Result<Verified, DiskError> {
    let missing = || DiskError::corrupt(dir.join(MARKER_NAME), None, "the file is missing");
    let marker = Marker::read(dir)?.ok_or_else(missing)?;
    let database_dir = marker.database_dir(dir);
    if let Some(recorded) = &marker.manifest {
        manifest::check(&database_dir, recorded)?;
        verify_tables(&database_dir, &marker.tables, u64::MAX)?;
    }
    let database = Database::open_read_only(&database_dir, BLOCK_CACHE_BYTES)?;
    database.verify()?;
    let state = crate::keyspace::check_state(&database, &marker, &Options::default())?;
    let view = View::new(Arc::new(database), state);
    let counted = count(&view)?;
    agree(&view, &counted)?;
    Ok(Verified {
        position: view.position(),
        promised: marker.promised,
        revision: view.current_revision(),
        compacted: view.compacted_revision(),
        keys: counted.current,
        versions: counted.versions,
    })
}

/// What the column families say, each for itself.
#[derive(Default)]
struct Counted {
    current: u64,
    current_with_lease: u64,
    digest: u64,
    lease_keys: u64,
    versions: u64,
    living_versions: u64,
}

fn count(view: &View) -> Result<Counted, DiskError> {
    let mut counted = Counted::default();
    let mut iterator = view.iterate(Column::Current, None);
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let malformed = |_| view.database().malformed(Column::Current);
        let kv = encoding::parse_current(bytes::Bytes::copy_from_slice(key), value).map_err(malformed)?;
        if kv.mod_revision > view.current_revision() {
            let reason = format!("{} is of revision {}, later than all", key.escape_ascii(), kv.mod_revision);
            return Err(DiskError::corrupt(view.database().dir(), None, reason));
        }
        counted.current += 1;
        counted.digest = counted.digest.wrapping_add(crate::digest::of_record(key, value));
        counted.current_with_lease += u64::from(!kv.lease.is_none());
        iterator.next();
    }
    view.database().finished(&iterator)?;
    let mut iterator = view.iterate(Column::LeaseKeys, None);
    iterator.seek_to_first();
    while iterator.valid() {
        counted.lease_keys += 1;
        iterator.next();
    }
    view.database().finished(&iterator)?;
    // Finds the version of every change.
    view.versions(&mut |version| {
        counted.versions += 1;
        counted.living_versions += u64::from(matches!(version.change, VersionChange::Put(_, None)));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(counted)
}

fn agree(view: &View, counted: &Counted) -> Result<(), DiskError> {
    let differs = |reason: String| Err(DiskError::corrupt(view.database().dir(), None, reason));
    let Counted { current, current_with_lease, lease_keys, living_versions, .. } = counted;
    if living_versions != current {
        return differs(format!("{current} keys live, but the history knows of {living_versions}"));
    }
    if counted.digest != view.state().digest {
        return differs("the living versions do not add up to their digest".to_owned());
    }
    if lease_keys != current_with_lease {
        return differs(format!("{current_with_lease} keys hang on leases, but the leases know of {lease_keys}"));
    }
    Ok(())
}
