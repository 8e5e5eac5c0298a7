//! Snapshot files as operators bring them.

use std::{fs, path::Path};

use anyhow::Result;
use bytes::Bytes;
use tempfile::TempDir;
use xebec_store_core::{KeyValue, LeaseId, Revision};
use xebec_store_snapshot::{
    AlarmRecord, AuthRecords, BucketKey, Contents, Database, DowngradeRecord, LeaseRecord, MemberRecord, SnapshotFile,
    VersionRecord, VersionVisit, check, contents_of, measure, read_versions, status, write,
};

use super::{Target, outcome, scratch_dir};
use crate::input::Input;

/// Bytes of a page of the seeds, and where a meta page's numbers and their checksum lie in it.
const PAGE_BYTES: usize = 4096;
const META_START: usize = 16;
const META_SUMMED_BYTES: usize = 56;

/// Reads a file through as `snapshot status` and `snapshot restore` do.
pub struct Snapshot {
    dir: TempDir,
}

impl Snapshot {
    pub fn new() -> Result<Self> {
        Ok(Self { dir: scratch_dir()? })
    }
}

/// Gives both meta pages the right checksum, unless the kind is odd.
pub(super) fn file_of(input: &Input) -> Vec<u8> {
    let Some(part) = input.parts.first() else { return Vec::new() };
    let mut bytes = part.bytes.clone();
    if part.kind % 2 == 0 {
        for page in [0, PAGE_BYTES] {
            let start = page + META_START;
            let end = start + META_SUMMED_BYTES;
            if bytes.len() >= end + 8 {
                let seed = 0xcbf2_9ce4_8422_2325_u64;
                let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                let sum = bytes[start..end].iter().fold(seed, hash);
                bytes[end..end + 8].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
    bytes
}

fn contents() -> Contents {
    Contents {
        consistent_index: 9,
        term: 2,
        compacted: Revision(2),
        cleaned: Revision(2),
        storage_version: Some("3.6.0".to_owned()),
        cluster_version: Some("3.6.0".to_owned()),
        downgrade: Some(DowngradeRecord { target_version: "3.5.0".to_owned(), enabled: true }),
        leases: vec![LeaseRecord { id: 7, ttl_seconds: 60, remaining_seconds: 0 }],
        alarms: vec![AlarmRecord { member: 1, alarm: 2 }],
        members: vec![MemberRecord {
            id: 1,
            peer_urls: vec!["http://a:2380".to_owned()],
            name: "a".to_owned(),
            ..MemberRecord::default()
        }],
        removed: vec![4],
        auth: AuthRecords {
            enabled: true,
            revision: 3,
            users: vec![("root".into(), Bytes::from_static(b"\x0a\x04root\x1a\x04root"))],
            roles: vec![("r".into(), Bytes::from_static(b"\x0a\x01r\x12\x06\x08\x02\x12\x01a\x1a\x01b"))],
        },
    }
}

fn versions(count: usize, visit: &mut VersionVisit<'_>) -> Result<(), xebec_store_snapshot::SnapshotError> {
    for number in 0..count {
        let revision = Revision(2 + number as i64);
        let kv = KeyValue {
            key: Bytes::from(format!("key-{}", number / 2)),
            value: Bytes::from(vec![b'v'; 30 + number]),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: LeaseId(0),
        };
        let is_tombstone = number % 5 == 4;
        visit(&VersionRecord { key: BucketKey { revision, sub: 0, is_tombstone }, kv: Some(kv) })?;
    }
    Ok(())
}

/// Sound databases: of one page a bucket, and with branches.
pub(super) fn seeds() -> Result<Vec<Input>> {
    let mut seeds = Vec::new();
    for count in [3, 120] {
        let layout = measure(&contents(), &mut |visit| versions(count, visit))?;
        let mut file = Vec::new();
        let mut sink = |page: &[u8]| {
            file.extend_from_slice(page);
            Ok(())
        };
        write(layout, &contents(), &mut |visit| versions(count, visit), &mut sink)?;
        seeds.push(Input::one(0, file));
    }
    Ok(seeds)
}

fn look(path: &Path) -> Result<(), xebec_store_snapshot::SnapshotError> {
    SnapshotFile::verify(path, true)?;
    let database = Database::open(path)?;
    let checked = check(&database);
    let summed = status(&database);
    assert!(checked.is_ok() || summed.is_err(), "status accepts what check refuses");
    let read = read_versions(&database, &mut |_| Ok(())).and(contents_of(&database).map(drop));
    checked.and(summed.map(drop)).and(read)
}

impl Target for Snapshot {
    fn seeds(&self) -> Result<Vec<Input>> {
        seeds()
    }

    fn run(&mut self, input: &Input) -> u64 {
        let path = self.dir.path().join("snapshot.db");
        fs::write(&path, file_of(input)).expect("the scratch directory takes a file");
        match look(&path) {
            Ok(()) => 1,
            Err(error) => outcome(error.to_string().rsplit(": ").next().unwrap_or_default()),
        }
    }
}
