use bytes::Bytes;
use prost::Message;
use xebec_store_core::Revision;

use crate::keys::{self, BucketKey, VersionRecord, bucket_key_bytes, encode_put, encode_tombstone};
use crate::records::{AlarmRecord, ConfState, DowngradeRecord, LeaseRecord, MemberRecord};
use crate::{Database, Layout, SnapshotError, Writer};

/// The buckets' names.
pub mod bucket {
    /// Versions.
    pub const KEY: &[u8] = b"key";
    /// Positions and versions.
    pub const META: &[u8] = b"meta";
    /// Leases.
    pub const LEASE: &[u8] = b"lease";
    /// Alarms.
    pub const ALARM: &[u8] = b"alarm";
    /// The cluster's version.
    pub const CLUSTER: &[u8] = b"cluster";
    /// Members.
    pub const MEMBERS: &[u8] = b"members";
    /// Members that were removed.
    pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
    /// Whether authentication is on, and its revision.
    pub const AUTH: &[u8] = b"auth";
    /// Users.
    pub const AUTH_USERS: &[u8] = b"authUsers";
    /// Roles.
    pub const AUTH_ROLES: &[u8] = b"authRoles";
}

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
const STORAGE_VERSION: &[u8] = b"storageVersion";
const CLUSTER_VERSION: &[u8] = b"clusterVersion";
const DOWNGRADE: &[u8] = b"downgrade";
const AUTH_ENABLED: &[u8] = b"authEnabled";
const AUTH_REVISION: &[u8] = b"authRevision";
const REMOVED: &[u8] = b"removed";

/// All of a snapshot but the versions: small enough for memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The last log entry in it, and its term.
    pub consistent_index: u64,
    /// The term of that entry; 0 in snapshots before 3.5.
    pub term: u64,
    /// The compacted revision; 0 if nothing was ever compacted.
    pub compacted: Revision,
    /// Up to which compaction old versions are removed; at most `compacted`.
    pub cleaned: Revision,
    /// etcd's storage version, since 3.6.
    pub storage_version: Option<String>,
    /// The cluster's version.
    pub cluster_version: Option<String>,
    /// A downgrade under way.
    pub downgrade: Option<DowngradeRecord>,
    /// Leases.
    pub leases: Vec<LeaseRecord>,
    /// Alarms.
    pub alarms: Vec<AlarmRecord>,
    /// Members.
    pub members: Vec<MemberRecord>,
    /// Members that were removed.
    pub removed: Vec<u64>,
    /// Users and roles.
    pub auth: AuthRecords,
}

/// What authentication keeps, in etcd's encoding (`authpb`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthRecords {
    /// Whether it is on.
    pub enabled: bool,
    /// Its revision; 0 where it was never touched.
    pub revision: u64,
    /// `authpb.User` by name.
    pub users: Vec<(Bytes, Bytes)>,
    /// `authpb.Role` by name.
    pub roles: Vec<(Bytes, Bytes)>,
}

/// What a source of versions calls, in order of revision.
pub type VersionVisit<'v> = dyn FnMut(&VersionRecord) -> Result<(), SnapshotError> + 'v;
/// Calls its argument with every version and deletion that is kept, in order of revision; the same each time.
pub type VersionSource<'s> = dyn FnMut(&mut VersionVisit<'_>) -> Result<(), SnapshotError> + 's;

/// Measures the database that [`write`] will make of the same.
///
/// # Errors
/// What `versions` returns.
pub fn measure(contents: &Contents, versions: &mut VersionSource<'_>) -> Result<Layout, SnapshotError> {
    Writer::measure(|writer| fill(contents, versions, writer))
}

/// Makes a database, page after page; the pages are whole and their order is that of the file.
///
/// # Errors
/// What `versions` and `sink` return; [`SnapshotError::Layout`] if either input has changed since it was measured.
pub fn write(
    layout: Layout,
    contents: &Contents,
    versions: &mut VersionSource<'_>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let mut sink = |page: &[u8]| sink(page);
    Writer::write(layout, &mut sink, |writer| fill(contents, versions, writer))
}

fn fill(contents: &Contents, versions: &mut VersionSource<'_>, writer: &mut Writer<'_>) -> Result<(), SnapshotError> {
    let small = small_buckets(contents);
    writer.bucket(bucket::KEY)?;
    versions(&mut |record| writer.put(&bucket_key_bytes(&record.key), &value_of(record)))?;
    for (name, mut entries) in small {
        entries.sort();
        writer.bucket(name)?;
        for (key, value) in entries {
            writer.put(&key, &value)?;
        }
    }
    Ok(())
}

/// The CRC-32C over every bucket's name, keys and values, in order (etcd `server/storage/backend/backend.go`, `Hash`,
/// without what `schema.DefaultIgnores` names): equal wherever the same was done.
///
/// # Errors
/// What `versions` returns.
pub fn hash(contents: &Contents, versions: &mut VersionSource<'_>) -> Result<u32, SnapshotError> {
    let mut buckets = small_buckets(contents);
    buckets.push((bucket::KEY, Vec::new()));
    buckets.sort_by_key(|(name, _)| *name);
    let mut sum = 0;
    let mut add = |bytes: &[u8]| sum = crc32c::crc32c_append(sum, bytes);
    for (name, mut entries) in buckets {
        add(name);
        entries.sort();
        for (key, value) in entries {
            if name != bucket::META || ![CONSISTENT_INDEX, TERM, STORAGE_VERSION].contains(&key.as_slice()) {
                add(&key);
                add(&value);
            }
        }
        if name == bucket::KEY {
            versions(&mut |record| {
                add(&bucket_key_bytes(&record.key));
                add(&value_of(record));
                Ok(())
            })?;
        }
    }
    Ok(sum)
}

/// A version's value in the `key` bucket.
fn value_of(record: &VersionRecord) -> Vec<u8> {
    match &record.kv {
        Some(kv) if record.key.is_tombstone => encode_tombstone(&kv.key),
        Some(kv) => encode_put(kv),
        None => Vec::new(),
    }
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn small_buckets(contents: &Contents) -> Vec<(&'static [u8], Entries)> {
    let json = |value: &dyn erased::Json| value.to_json();
    let auth = &contents.auth;
    let pairs = |list: &[(Bytes, Bytes)]| list.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let mut cluster: Entries = Vec::new();
    if let Some(version) = &contents.cluster_version {
        cluster.push((CLUSTER_VERSION.to_vec(), version.clone().into_bytes()));
    }
    if let Some(downgrade) = &contents.downgrade {
        cluster.push((DOWNGRADE.to_vec(), json(downgrade)));
    }
    let mut auth_facts: Entries = vec![(AUTH_ENABLED.to_vec(), vec![u8::from(auth.enabled)])];
    if auth.revision > 0 {
        auth_facts.push((AUTH_REVISION.to_vec(), auth.revision.to_be_bytes().to_vec()));
    }
    let member_key = |id: u64| format!("{id:x}").into_bytes();
    vec![
        (bucket::META, meta_entries(contents)),
        (
            bucket::LEASE,
            contents.leases.iter().map(|lease| (lease.id.to_be_bytes().to_vec(), lease.encode_to_vec())).collect(),
        ),
        (bucket::ALARM, contents.alarms.iter().map(|alarm| (alarm.encode_to_vec(), Vec::new())).collect()),
        (bucket::CLUSTER, cluster),
        (bucket::MEMBERS, contents.members.iter().map(|member| (member_key(member.id), json(member))).collect()),
        (bucket::MEMBERS_REMOVED, contents.removed.iter().map(|id| (member_key(*id), REMOVED.to_vec())).collect()),
        (bucket::AUTH, auth_facts),
        (bucket::AUTH_USERS, pairs(&auth.users)),
        (bucket::AUTH_ROLES, pairs(&auth.roles)),
    ]
}

fn meta_entries(contents: &Contents) -> Entries {
    let mut meta: Entries = Vec::new();
    // etcd never writes a zero, which would mean that it does not know.
    for (name, number) in [(CONSISTENT_INDEX, contents.consistent_index), (TERM, contents.term)] {
        if number > 0 {
            meta.push((name.to_vec(), number.to_be_bytes().to_vec()));
        }
    }
    if contents.compacted.0 > 0 {
        for (name, revision) in [(SCHEDULED_COMPACT, contents.compacted), (FINISHED_COMPACT, contents.cleaned)] {
            let key = BucketKey { revision, sub: 0, is_tombstone: false };
            meta.push((name.to_vec(), bucket_key_bytes(&key)));
        }
    }
    let ids = |is_learner: bool| {
        let members = contents.members.iter().filter(move |member| member.is_learner == is_learner);
        members.map(|member| member.id).collect::<Vec<_>>()
    };
    if !contents.members.is_empty() {
        let conf_state = ConfState { voters: ids(false), learners: ids(true), auto_leave: false };
        meta.push((CONF_STATE.to_vec(), erased::Json::to_json(&conf_state)));
    }
    if let Some(version) = &contents.storage_version {
        meta.push((STORAGE_VERSION.to_vec(), version.clone().into_bytes()));
    }
    meta
}

/// Plain records as JSON.
mod erased {
    pub(super) trait Json {
        fn to_json(&self) -> Vec<u8>;
    }

    impl<T: serde::Serialize> Json for T {
        fn to_json(&self) -> Vec<u8> {
            serde_json::to_vec(self).expect("a record of names and numbers is always JSON")
        }
    }
}

/// Visits the versions of a snapshot in order of revision.
///
/// # Errors
/// [`SnapshotError::Damaged`], and what `visit` returns.
pub fn read_versions(database: &Database, visit: &mut VersionVisit<'_>) -> Result<(), SnapshotError> {
    database.for_each(bucket::KEY, &mut |key, value| {
        let record = keys::parse(key, value).ok_or_else(|| malformed(database, bucket::KEY, key))?;
        visit(&record)
    })
}

/// Reads everything but the versions.
///
/// # Errors
/// [`SnapshotError::Damaged`].
pub fn contents_of(database: &Database) -> Result<Contents, SnapshotError> {
    let mut contents = read_meta(database)?;
    read_each(database, bucket::LEASE, |_, value| {
        contents.leases.push(LeaseRecord::decode(value).ok()?);
        Some(())
    })?;
    read_each(database, bucket::ALARM, |key, _| {
        contents.alarms.push(AlarmRecord::decode(key).ok()?);
        Some(())
    })?;
    read_each(database, bucket::CLUSTER, |key, value| {
        match key {
            CLUSTER_VERSION => contents.cluster_version = Some(String::from_utf8(value.to_vec()).ok()?),
            DOWNGRADE => contents.downgrade = Some(serde_json::from_slice(value).ok()?),
            _ => {}
        }
        Some(())
    })?;
    read_each(database, bucket::MEMBERS, |_, value| {
        contents.members.push(serde_json::from_slice(value).ok()?);
        Some(())
    })?;
    read_each(database, bucket::MEMBERS_REMOVED, |key, _| {
        contents.removed.push(u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()?);
        Some(())
    })?;
    let auth = &mut contents.auth;
    read_each(database, bucket::AUTH, |key, value| {
        match key {
            AUTH_ENABLED => auth.enabled = value == [1],
            AUTH_REVISION => auth.revision = u64::from_be_bytes(*value.first_chunk()?),
            _ => {}
        }
        Some(())
    })?;
    for (name, list) in [(bucket::AUTH_USERS, &mut auth.users), (bucket::AUTH_ROLES, &mut auth.roles)] {
        read_each(database, name, |key, value| {
            list.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            Some(())
        })?;
    }
    Ok(contents)
}

fn read_meta(database: &Database) -> Result<Contents, SnapshotError> {
    let mut contents = Contents::default();
    read_each(database, bucket::META, |key, value| {
        let number = || value.first_chunk().map(|chunk| u64::from_be_bytes(*chunk));
        match key {
            CONSISTENT_INDEX => contents.consistent_index = number()?,
            TERM => contents.term = number()?,
            SCHEDULED_COMPACT => contents.compacted = BucketKey::parse(value)?.revision,
            FINISHED_COMPACT => contents.cleaned = BucketKey::parse(value)?.revision,
            STORAGE_VERSION => contents.storage_version = Some(String::from_utf8(value.to_vec()).ok()?),
            _ => {}
        }
        Some(())
    })?;
    contents.compacted = contents.compacted.max(contents.cleaned);
    Ok(contents)
}

/// Reads a bucket; `take` says `None` of an entry that cannot be one of etcd's.
fn read_each(
    database: &Database,
    name: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Result<(), SnapshotError> {
    database.for_each(name, &mut |key, value| take(key, value).ok_or_else(|| malformed(database, name, key)))
}

fn malformed(database: &Database, name: &[u8], key: &[u8]) -> SnapshotError {
    let reason = format!("bucket {}: the entry {} is malformed", String::from_utf8_lossy(name), key.escape_ascii());
    database.damaged_at(0, reason)
}
