//! The container: what is written reads back, and damage is found and named.
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use xebec_store_core::{KeyValue, LeaseId, Revision};
use xebec_store_snapshot::{
    AlarmRecord, AuthRecords, BucketKey, CHECKSUM_BYTES, Contents, Database, DowngradeRecord, LeaseRecord,
    MemberRecord, PAGE_BYTES, SnapshotError, SnapshotFile, Summed, VersionRecord, Writer, check, contents_of, measure,
    read_versions, status, write,
};

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill(writer: &mut Writer<'_>, buckets: &Buckets) -> Result<(), SnapshotError> {
    for (name, entries) in buckets {
        writer.bucket(name)?;
        for (key, value) in entries {
            writer.put(key, value)?;
        }
    }
    Ok(())
}

fn file_of(buckets: &Buckets) -> Vec<u8> {
    let layout = Writer::measure(|writer| fill(writer, buckets)).unwrap();
    let mut file = Vec::new();
    let mut sink = |page: &[u8]| {
        assert_eq!(page.len() % PAGE_BYTES, 0);
        file.extend_from_slice(page);
        Ok(())
    };
    Writer::write(layout, &mut sink, |writer| fill(writer, buckets)).unwrap();
    assert_eq!(file.len() as u64, layout.size_bytes());
    file
}

fn read(database: &Database, names: impl IntoIterator<Item = Vec<u8>>) -> Result<Buckets, SnapshotError> {
    let mut buckets = Buckets::new();
    for name in names {
        let entries = buckets.entry(name.clone()).or_default();
        database.for_each(&name, &mut |key, value| {
            entries.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
    }
    Ok(buckets)
}

fn in_file<T>(bytes: &[u8], look: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.db");
    fs::write(&path, bytes).unwrap();
    look(&path)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        2 => (0usize..20_000).prop_map(|length| vec![7; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_buckets_read_back_and_pass_the_check(
        buckets in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..9),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..60), value(), 0..300),
            0..4,
        )
    ) {
        in_file(&file_of(&buckets), |path| {
            let database = Database::open(path).unwrap();
            check(&database).unwrap();
            let found = read(&database, buckets.keys().cloned()).unwrap();
            prop_assert_eq!(&found, &buckets);
            Ok(())
        })?;
    }

    /// Whatever stands in a file, reading it ends and never panics.
    #[test]
    fn damaged_files_are_refused_or_read_but_never_believed_blindly(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = file_of(&many(500));
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        in_file(&file, |path| {
            if let Ok(database) = Database::open(path) {
                let (checked, read) = (check(&database), read(&database, [b"key".to_vec()]));
                prop_assert!(checked.is_err() || read.is_ok());
                let (summed, contents) = (status(&database), contents_of(&database));
                prop_assert!(summed.is_ok() <= checked.is_ok() && (contents.is_ok() || checked.is_err() || summed.is_err()));
            }
            Ok(())
        })?;
    }
}

/// A bucket with that many keys: three levels from some twenty thousand on.
fn many(count: u64) -> Buckets {
    let entries = (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![1; 100])).collect();
    BTreeMap::from([(b"key".to_vec(), entries), (b"empty".to_vec(), BTreeMap::new())])
}

#[test]
fn a_tree_of_several_levels_reads_back() {
    let buckets = many(100_000);
    in_file(&file_of(&buckets), |path| {
        let database = Database::open(path).unwrap();
        check(&database).unwrap();
        assert_eq!(read(&database, buckets.keys().cloned()).unwrap(), buckets);
    });
}

#[test]
fn damage_is_named_with_the_offset_of_its_page() {
    let file = file_of(&many(2_000));
    let page_of_leaf = 5;
    let start = page_of_leaf * PAGE_BYTES;
    // The page's number, its kind, its first element's position, a key.
    for at in [start, start + 8, start + 16 + 4, start + PAGE_BYTES / 4] {
        let mut damaged = file.clone();
        damaged[at] ^= 0x80;
        let error = in_file(&damaged, |path| check(&Database::open(path).unwrap()));
        match error {
            Err(SnapshotError::Damaged { offset, .. }) => assert_eq!(offset, start as u64, "byte {at}"),
            other => assert!(at == start + PAGE_BYTES / 4, "byte {at}: {other:?}"),
        }
    }
    let error = in_file(&file[..file.len() - 1], Database::open).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { offset, .. } if offset == file.len() as u64 - 1), "{error}");
}

#[test]
fn one_damaged_meta_page_is_made_up_for_by_the_other_and_two_are_not() {
    let mut file = file_of(&many(10));
    file[20] ^= 1;
    in_file(&file, |path| check(&Database::open(path).unwrap()).unwrap());
    file[PAGE_BYTES + 20] ^= 1;
    in_file(&file, |path| assert!(Database::open(path).is_err()));
}

#[test]
fn keys_out_of_order_are_the_writers_bug() {
    let error = Writer::measure(|writer| {
        writer.bucket(b"key")?;
        writer.put(b"b", b"")?;
        writer.put(b"a", b"")
    });
    assert!(matches!(error, Err(SnapshotError::Order { bucket }) if bucket == "key"));
}

fn put(revision: i64, sub: u32, key: &str, version: i64) -> VersionRecord {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version,
        lease: LeaseId(-7),
    };
    VersionRecord { key: BucketKey { revision: Revision(revision), sub, is_tombstone: false }, kv: Some(kv) }
}

fn tombstone(revision: i64, key: &str) -> VersionRecord {
    let kv = KeyValue { key: Bytes::copy_from_slice(key.as_bytes()), ..KeyValue::default() };
    VersionRecord { key: BucketKey { revision: Revision(revision), sub: 0, is_tombstone: true }, kv: Some(kv) }
}

fn contents() -> Contents {
    Contents {
        consistent_index: 12,
        term: 3,
        compacted: Revision(4),
        cleaned: Revision(4),
        storage_version: Some("3.6.0".to_owned()),
        cluster_version: Some("3.6.0".to_owned()),
        downgrade: Some(DowngradeRecord::default()),
        leases: vec![LeaseRecord { id: 5, ttl_seconds: 60, remaining_seconds: 30 }],
        alarms: vec![AlarmRecord { member: 9, alarm: 1 }],
        members: vec![MemberRecord {
            id: 0x1f,
            peer_urls: vec!["http://a:1".to_owned()],
            name: "a".to_owned(),
            ..MemberRecord::default()
        }],
        removed: vec![0xab],
        auth: AuthRecords {
            enabled: true,
            revision: 2,
            users: vec![(Bytes::from_static(b"root"), Bytes::from_static(b"\x0a\x04root"))],
            roles: Vec::new(),
        },
    }
}

#[test]
fn a_snapshot_reads_back_as_it_was_and_is_summed_up() {
    let versions = [put(5, 0, "a", 1), put(5, 1, "b", 1), put(6, 0, "a", 2), tombstone(7, "b")];
    let mut source = |visit: &mut xebec_store_snapshot::VersionVisit<'_>| versions.iter().try_for_each(visit);
    let contents = contents();
    let layout = measure(&contents, &mut source).unwrap();
    let mut file = Vec::new();
    let mut sum = Summed::default();
    write(layout, &contents, &mut source, &mut |page| {
        file.extend_from_slice(page);
        sum.update(page);
        Ok(())
    })
    .unwrap();
    let sha256 = sum.finish();
    file.extend_from_slice(&sha256);
    in_file(&file, |path| {
        let found = SnapshotFile::verify(path, false).unwrap();
        assert_eq!((found.sha256, found.has_checksum), (sha256, true));
        let database = Database::open(path).unwrap();
        let mut read = Vec::new();
        read_versions(&database, &mut |record| {
            read.push(record.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(read, versions);
        assert_eq!(contents_of(&database).unwrap(), contents);
        let status = status(&database).unwrap();
        assert_eq!((status.revision, status.total_keys, status.version.as_str()), (7, 1, "3.6.0"));
    });
    let last = file.len() - 1;
    file[last] ^= 1;
    in_file(&file, |path| {
        assert!(matches!(SnapshotFile::verify(path, false), Err(SnapshotError::Checksum { .. })));
        assert!(SnapshotFile::verify(path, true).is_ok());
    });
    file.truncate(file.len() - CHECKSUM_BYTES);
    in_file(&file, |path| {
        assert!(matches!(SnapshotFile::verify(path, false), Err(SnapshotError::NoChecksum)));
        assert!(SnapshotFile::verify(path, true).is_ok());
    });
}
