//! Entrances for `store/fuzz`: every decoder of this crate that takes bytes from another member or from the disk, as it
//! is used, without a member around it.

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use openraft::{
    EntryPayload,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::Status;
use xebec_proto::xebec::peer::v1::{SnapshotChunk, SnapshotManifest, SnapshotPart, snapshot_part::Part};
use xebec_store_core::Command;
use xebec_store_disk::{Checkpoint, CheckpointFile};
use xebec_store_log::{Files, Log, LogEntry, LogOptions};

use crate::{
    identity::{Identity, Passport},
    log_store::StoredEntry,
    membership::MembershipOutcome,
    reconfiguration::MembershipChange,
    snapshot,
    types::{AppendResult, Batch, Entry, LogId, MemberNode, Outcome, SnapshotMeta, StoredMembership, TypeConfig, Vote},
    wire,
};

/// Bytes of entries decoded at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// A kind of value that another member sends, or the disk holds.
pub struct WireKind {
    /// Its name.
    pub name: &'static str,
    /// Decodes a value, and encodes and decodes it again: `None` if the bytes are refused, else whether both
    /// encodings were the same.
    pub read: fn(&[u8]) -> Option<bool>,
}

fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<bool> {
    let value: T = wire::decode(bytes).ok()?;
    let again = wire::encode(&value).ok()?;
    let copy: T = wire::decode(&again).ok()?;
    Some(wire::encode(&copy).is_ok_and(|copied| copied == again))
}

/// All of them.
pub const WIRE_KINDS: [WireKind; 17] = [
    WireKind { name: "Command", read: read::<Command> },
    WireKind { name: "Outcome", read: read::<Outcome> },
    WireKind { name: "Entry", read: read::<Entry> },
    WireKind { name: "AppendEntriesRequest", read: read::<AppendEntriesRequest<TypeConfig>> },
    WireKind { name: "AppendEntriesResponse", read: read::<AppendEntriesResponse<TypeConfig>> },
    WireKind { name: "AppendResult", read: read::<AppendResult> },
    WireKind { name: "VoteRequest", read: read::<VoteRequest<TypeConfig>> },
    WireKind { name: "VoteResponse", read: read::<VoteResponse<TypeConfig>> },
    WireKind { name: "TransferLeaderRequest", read: read::<TransferLeaderRequest<TypeConfig>> },
    WireKind { name: "SnapshotResponse", read: read::<SnapshotResponse<TypeConfig>> },
    WireKind { name: "MembershipChange", read: read::<MembershipChange> },
    WireKind { name: "MembershipOutcome", read: read::<MembershipOutcome> },
    WireKind { name: "StoredMembership", read: read::<StoredMembership> },
    WireKind { name: "SnapshotMeta", read: read::<SnapshotMeta> },
    WireKind { name: "Vote", read: read::<Vote> },
    WireKind { name: "Checkpoint", read: read::<Checkpoint> },
    WireKind { name: "Passport", read: read::<Passport> },
];

fn membership() -> StoredMembership {
    let nodes: BTreeMap<u64, MemberNode> = [1, 2, 3]
        .map(|id| {
            let node = MemberNode {
                name: format!("m{id}"),
                peer_urls: vec![format!("http://m{id}:2380")],
                is_voter_to_be: false,
            };
            (id, node)
        })
        .into();
    let membership = openraft::Membership::new(vec![nodes.keys().copied().collect()], nodes);
    StoredMembership::new(Some(log_id(1)), membership.unwrap_or_default())
}

fn log_id(index: u64) -> LogId {
    LogId { leader_id: 1.into(), index }
}

fn entries(commands: &[Command]) -> Vec<Entry> {
    let mut entries = vec![
        Entry { log_id: log_id(0), payload: EntryPayload::Membership(membership().membership().clone()) },
        Entry { log_id: log_id(1), payload: EntryPayload::Blank },
    ];
    entries.extend(commands.chunks(3).zip(2..).map(|(commands, index)| Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(Batch(commands.into())),
    }));
    entries
}

/// The place of a kind in [`WIRE_KINDS`], and the bytes of a sound value.
pub type WireSeed = (u16, Vec<u8>);

/// Sound values to begin with.
///
/// # Errors
/// What cannot be encoded.
pub fn wire_seeds(commands: &[Command]) -> Result<Vec<WireSeed>, Box<dyn std::error::Error>> {
    let vote = Vote::new(3, 1);
    let mut seeds = Vec::new();
    for command in commands {
        seeds.push((0, wire::encode(command)?));
    }
    for entry in entries(commands) {
        seeds.push((2, wire::encode(&entry)?));
    }
    let request: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(1)),
        entries: entries(commands),
        leader_commit: Some(log_id(1)),
    };
    seeds.push((3, wire::encode(&request)?));
    seeds.push((6, wire::encode(&VoteRequest::<TypeConfig>::new(vote, Some(log_id(7))))?));
    let add = MembershipChange::Add { peer_urls: vec!["http://m4:2380".to_owned()], is_learner: true };
    seeds.push((10, wire::encode(&add)?));
    seeds.push((12, wire::encode(&membership())?));
    let meta = SnapshotMeta { last_log_id: Some(log_id(9)), last_membership: membership() };
    seeds.push((13, wire::encode(&meta)?));
    seeds.push((14, wire::encode(&vote)?));
    seeds.push((15, wire::encode(&checkpoint(&[("CURRENT", b"MANIFEST-000001\n")]))?));
    let mut passport = Passport::new(Identity { member: 1, cluster: 2 });
    passport.incarnation = 7;
    passport.witnesses.insert(2, 9);
    seeds.push((16, wire::encode(&passport)?));
    Ok(seeds)
}

/// Encoded entries as the log's records hold them, from index 0 on.
///
/// # Errors
/// What cannot be encoded.
pub fn log_payloads(commands: &[Command]) -> Result<Vec<Vec<u8>>, String> {
    let encode = |entry: Entry| {
        let mut payload = Vec::new();
        StoredEntry(entry).encode(&mut payload).map(|()| payload)
    };
    entries(commands).into_iter().map(encode).collect()
}

/// Opens a log, reads all of it, and decodes the vote and the ids that it keeps, as a member does when it starts.
///
/// # Errors
/// What the log says, in words.
pub fn read_log(files: Arc<dyn Files>, dir: &Path) -> Result<u64, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let options = LogOptions { dir: dir.to_owned(), segment_bytes_max: 1 << 16, cache_bytes_max: 0 };
    let log: Log<StoredEntry> = Log::open_in(files, options).map_err(|error| text(&error))?;
    if let Some(vote) = log.vote() {
        wire::decode::<Vote>(&vote).map_err(|error| text(&error))?;
    }
    for (_, marker) in log.purged().into_iter().chain(log.committed()) {
        wire::decode::<LogId>(&marker).map_err(|error| text(&error))?;
    }
    let mut next = log.first_index();
    let mut count = 0;
    loop {
        let entries = log.read(next..u64::MAX, READ_BYTES_MAX).map_err(|error| text(&error))?;
        let Some(last) = entries.last() else { return Ok(count) };
        assert!(last.index() >= next, "the log reads backwards: {} after {next}", last.index());
        next = last.index().saturating_add(1);
        count += entries.len() as u64;
    }
}

fn checkpoint(files: &[(&str, &[u8])]) -> Checkpoint {
    let file = |(name, contents): &(&str, &[u8])| CheckpointFile {
        name: (*name).to_owned(),
        size_bytes: contents.len() as u64,
        crc32c: crc32c::crc32c(contents),
    };
    let files = files.iter().map(file).collect();
    Checkpoint { position: None, membership: None, revision: xebec_store_core::Revision(1), files }
}

/// A sound snapshot between members, as its parts.
///
/// # Errors
/// What cannot be encoded.
pub fn snapshot_parts() -> Result<Vec<SnapshotPart>, Box<dyn std::error::Error>> {
    let contents: [(&str, &[u8]); 2] = [("000001.sst", b"first"), ("CURRENT", b"MANIFEST-000001\n")];
    let manifest = SnapshotManifest {
        format: u32::from(wire::FORMAT),
        vote: wire::encode(&Vote::new(3, 1))?.into(),
        meta: wire::encode(&SnapshotMeta { last_log_id: Some(log_id(9)), last_membership: membership() })?.into(),
        checkpoint: wire::encode(&checkpoint(&contents))?.into(),
    };
    let mut parts = vec![SnapshotPart { part: Some(Part::Manifest(manifest)) }];
    parts.extend(contents.iter().zip(0..).map(|((_, data), file)| {
        let data = Bytes::from_static(data);
        let chunk = SnapshotChunk { file, offset: 0, crc32c: crc32c::crc32c(&data), data };
        SnapshotPart { part: Some(Part::Chunk(chunk)) }
    }));
    Ok(parts)
}

/// Receives a snapshot into a directory that is made for it, and removes it again.
///
/// # Errors
/// Why it is refused.
pub async fn receive_snapshot(
    parts: impl Stream<Item = Result<SnapshotPart, Status>> + Unpin,
    dir: PathBuf,
) -> Result<(), String> {
    snapshot::receive(parts, dir).await.map(drop).map_err(|error| error.to_string())
}
