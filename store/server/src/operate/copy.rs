//! A keyspace copied key by key, from a source that gives no snapshot away: one that does not know the call (kine, some
//! proxies), or where the user is no administrator.
//!
//! What a client can read is kept: every living key with its revisions, version and lease, as of one revision. What it cannot
//! is not, and is said: history, users and roles, and leases that cannot be asked for.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use xebec_proto::{
    etcdserverpb::{
        LeaseTimeToLiveRequest, RangeRequest, RangeResponse, kv_client::KvClient, lease_client::LeaseClient,
    },
    mvccpb,
};
use xebec_store_core::{ClusterTime, KeyValue, Lease, LeaseId, Revision, Write};
use xebec_store_disk::Loader;
use xebec_store_raft::SeedRevisions;

use super::{
    ClientFlags, NewMemberFlags, OperateError, blocking,
    client::{Connection, refused},
};

/// Keys asked for at once, and bytes of an answer that are taken: as many values of etcd's usual largest size.
const PAGE_KEYS: i64 = 100;
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Pages read ahead of the disk.
const PAGES_AHEAD_MAX: usize = 1;

/// A source's state, being read.
struct Source {
    endpoint: String,
    kv: KvClient<Connection>,
    leases: LeaseClient<Connection>,
    /// What is copied: from the first key up to the second, in etcd's way of saying it.
    range: (Bytes, Bytes),
    /// What was found out about leases so far: granted and left seconds, if they could be asked for.
    known: BTreeMap<i64, Option<(i64, i64)>>,
}

/// On its way to the disk.
enum Part {
    Keys(Vec<mvccpb::KeyValue>),
    Lease(Lease),
}

/// What was copied, and what was not.
#[derive(Default)]
struct Tally {
    keys: u64,
    keys_without_lease: u64,
    leases: u64,
}

/// Copies what begins with `prefix` into a new member's data directory.
pub(super) async fn copy(client: &ClientFlags, member: NewMemberFlags, prefix: &str) -> Result<(), OperateError> {
    if member.initial_cluster.as_ref().is_some_and(|members| members.contains(',')) {
        let text = "--without-history makes a cluster of one member, since a second copy would be of another moment: let others join it";
        return Err(OperateError::Plain(text.to_owned()));
    }
    let (endpoint, connection) = client.connect().await?;
    let mut source = Source {
        kv: KvClient::new(connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        leases: LeaseClient::new(connection),
        endpoint,
        range: range_of(prefix.as_bytes()),
        known: BTreeMap::new(),
    };
    let first = source.page(source.range.0.clone(), 0).await?;
    let header = first.header.unwrap_or_default();
    // A watch may still begin at the compacted revision itself, and what was deleted at the source's last one is not known.
    let revision = Revision(header.revision.saturating_add(1));
    let origin: Vec<u8> = header.cluster_id.to_be_bytes().into_iter().chain(revision.0.to_be_bytes()).collect();
    let seed = member.seed(&origin)?;
    let data_dir: PathBuf = seed.data_dir.clone();
    let (parts, mut arriving) = mpsc::channel(PAGES_AHEAD_MAX);
    let planting = blocking(move || {
        seed.plant(|loader| -> Result<SeedRevisions, OperateError> {
            let mut sub = 0;
            loop {
                match arriving.blocking_recv() {
                    Some(Ok(Some(part))) => load(part, loader, &mut sub)?,
                    Some(Ok(None)) => return Ok(SeedRevisions { revision, compacted: revision, cleaned: revision }),
                    Some(Err(error)) => return Err(error),
                    None => return Err(OperateError::Plain("stopped".to_owned())),
                }
            }
        })
        .map(drop)
    });
    let reading = async {
        let outcome = source.read(first, header.revision, &parts).await;
        let (end, tally) = match outcome {
            Ok(tally) => (Ok(None), tally),
            Err(error) => (Err(error), Tally::default()),
        };
        if parts.send(end).await.is_err() {
            tracing::debug!("nobody waits for the end of the copy");
        }
        drop(parts);
        tally
    };
    let (planted, tally) = tokio::join!(planting, reading);
    planted?;
    tell(&source.endpoint, &data_dir, header.revision, &tally);
    Ok(())
}

fn tell(endpoint: &str, data_dir: &std::path::Path, revision: i64, tally: &Tally) {
    println!(
        "Copied {} keys and {} leases of {endpoint} as of revision {revision} into {}",
        tally.keys,
        tally.leases,
        data_dir.display()
    );
    println!("Not copied: versions before revision {revision}, users and roles. Watches from before it are cancelled.");
    if tally.keys_without_lease > 0 {
        println!(
            "{} keys had a lease that is gone or could not be asked for: they will not expire by themselves",
            tally.keys_without_lease
        );
    }
}

/// Everything with a prefix, in etcd's way of saying it.
fn range_of(prefix: &[u8]) -> (Bytes, Bytes) {
    let everything = Bytes::from_static(b"\0");
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX);
    let end = last.map(|last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        Bytes::from(end)
    });
    let start = if prefix.is_empty() { everything.clone() } else { Bytes::copy_from_slice(prefix) };
    (start, end.unwrap_or(everything))
}

fn load(part: Part, loader: &mut Loader, sub: &mut u32) -> Result<(), OperateError> {
    match part {
        Part::Lease(lease) => Ok(loader.add(Write::LeaseSet(lease))?),
        Part::Keys(keys) => {
            for kv in keys {
                let kv = KeyValue {
                    key: kv.key,
                    create_revision: Revision(kv.create_revision),
                    mod_revision: Revision(kv.mod_revision),
                    version: kv.version,
                    value: kv.value,
                    lease: LeaseId(kv.lease),
                };
                // Changes of one transaction must differ in this; their order within it is not known.
                loader.put(*sub, kv)?;
                *sub = sub.checked_add(1).ok_or_else(|| OperateError::Plain("too many keys".to_owned()))?;
            }
            Ok(())
        }
    }
}

impl Source {
    /// Keys from `start` on; as of `revision`, or now if it is 0.
    async fn page(&mut self, start: Bytes, revision: i64) -> Result<RangeResponse, OperateError> {
        let range_end = self.range.1.clone();
        let request = RangeRequest { key: start, range_end, limit: PAGE_KEYS, revision, ..RangeRequest::default() };
        match self.kv.range(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(refused(&self.endpoint, status)),
        }
    }

    /// Hands everything over, from the first page on.
    async fn read(
        &mut self,
        first: RangeResponse,
        revision: i64,
        parts: &mpsc::Sender<Result<Option<Part>, OperateError>>,
    ) -> Result<Tally, OperateError> {
        let gone = |_| OperateError::Plain("the copy has ended early".to_owned());
        let mut tally = Tally::default();
        let mut page = first;
        loop {
            let mut keys = page.kvs;
            for kv in keys.iter_mut().filter(|kv| kv.lease != 0) {
                let is_new = !self.known.contains_key(&kv.lease);
                match self.lease(kv.lease).await {
                    Some(lease) if is_new => {
                        tally.leases += 1;
                        parts.send(Ok(Some(Part::Lease(lease)))).await.map_err(gone)?;
                    }
                    Some(_) => {}
                    None => {
                        tally.keys_without_lease += 1;
                        kv.lease = 0;
                    }
                }
            }
            tally.keys += keys.len() as u64;
            let next = keys.last().filter(|_| page.more).map(|kv| [kv.key.as_ref(), b"\0"].concat());
            parts.send(Ok(Some(Part::Keys(keys)))).await.map_err(gone)?;
            let Some(next) = next else { return Ok(tally) };
            page = self.page(next.into(), revision).await?;
        }
    }

    /// A lease that keys have, if it is still there.
    async fn lease(&mut self, id: i64) -> Option<Lease> {
        if !self.known.contains_key(&id) {
            let request = LeaseTimeToLiveRequest { id, keys: false };
            let found = match self.leases.lease_time_to_live(request).await {
                Ok(response) => Some(response.into_inner()).filter(|life| life.ttl > 0),
                Err(status) => {
                    tracing::warn!(lease = format!("{id:x}"), %status, "the lease cannot be asked for");
                    None
                }
            };
            self.known.insert(id, found.map(|life| (life.granted_ttl, life.ttl)));
        }
        let (ttl_seconds, left_seconds) = self.known.get(&id).copied().flatten()?;
        let left_millis = u64::try_from(left_seconds).unwrap_or(0).saturating_mul(1_000);
        Some(Lease { id: LeaseId(id), ttl_seconds, deadline: ClusterTime(0).plus_millis(left_millis) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_becomes_a_range_and_none_is_everything() {
        let range = |prefix: &[u8]| {
            let (start, end) = range_of(prefix);
            (start.to_vec(), end.to_vec())
        };
        assert_eq!(range(b""), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(range(b"/registry/"), (b"/registry/".to_vec(), b"/registry0".to_vec()));
        assert_eq!(range(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
        assert_eq!(range(b"\xff"), (b"\xff".to_vec(), b"\0".to_vec()));
    }
}
