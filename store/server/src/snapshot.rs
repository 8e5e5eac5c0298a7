//! The `Snapshot` RPC: the keyspace as etcd's database file, made while it is sent (etcd
//! `server/etcdserver/api/v3rpc/maintenance.go`).

use std::{ops::ControlFlow, pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use xebec_proto::etcdserverpb::SnapshotResponse;
use xebec_store_core::{AlarmKind, KeyValue, Lease, ReadView, Revision};
use xebec_store_disk::{Version, VersionChange, View};
use xebec_store_snapshot::{
    AlarmRecord, BucketKey, Contents, LeaseRecord, MemberRecord, SnapshotError, Summed, VersionRecord, VersionVisit,
    measure, write,
};

use crate::{auth_records, context::Context, downgrade, status::IntoStatus};

/// Bytes of one message (etcd `snapshotSendBufferSize`).
const CHUNK_BYTES: usize = 32 * 1024;
/// Messages made ahead of the network.
const CHUNKS_AHEAD_MAX: usize = 8;
/// Snapshots sent at once; each keeps superseded data on disk and reads the keyspace twice. Others wait.
const SNAPSHOTS_AT_ONCE_MAX: usize = 2;
/// Versions read between two looks at whether the client is still there.
const VERSIONS_PER_LOOK: u64 = 1024;

/// Snapshots that may begin.
static PERMITS: Semaphore = Semaphore::const_new(SNAPSHOTS_AT_ONCE_MAX);

pub(crate) type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

/// Streams the keyspace as it is now. Writers are not held up: everything is read from one view.
pub(crate) async fn stream(context: &Context) -> Result<SnapshotStream, Status> {
    let permit = PERMITS.acquire().await.map_err(|_| crate::status::stopped())?;
    let view = context.member.keyspace().view();
    let contents = contents(context, &view)?;
    let (tx, rx) = mpsc::channel(CHUNKS_AHEAD_MAX);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        match send(&view, &contents, &tx) {
            Ok(bytes) => tracing::info!(bytes, revision = view.current_revision().0, "sent a snapshot"),
            Err(SnapshotError::Gone) => tracing::debug!("a client went away before its snapshot was complete"),
            Err(error) => {
                tracing::error!(%error, cause = ?std::error::Error::source(&error), "cannot make a snapshot");
                let status = Status::internal(format!("etcdserver: cannot make a snapshot: {error}"));
                if tx.blocking_send(Err(status)).is_err() {
                    tracing::debug!("nobody waits for the failed snapshot");
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(rx)))
}

/// The hash of everything that a snapshot would hold, and the revision it was taken at. What is left of leases is not among
/// it: etcd notes that only now and then.
pub(crate) async fn hash(context: &Context) -> Result<(Revision, u32), Status> {
    let _permit = PERMITS.acquire().await.map_err(|_| crate::status::stopped())?;
    let view = context.member.keyspace().view();
    let mut contents = contents(context, &view)?;
    contents.leases.iter_mut().for_each(|lease| lease.remaining_seconds = 0);
    crate::context::blocking(move || {
        let mut all = |visit: &mut VersionVisit<'_>| versions(&view, &|| false, visit);
        let hashed = xebec_store_snapshot::hash(&contents, &mut all).map_err(|error| {
            tracing::error!(%error, "the keyspace cannot be hashed");
            Status::internal("etcdserver: the keyspace cannot be read")
        })?;
        Ok((view.current_revision(), hashed))
    })
    .await
}

type Sender = mpsc::Sender<Result<SnapshotResponse, Status>>;

fn send(view: &View, contents: &Contents, tx: &Sender) -> Result<u64, SnapshotError> {
    let layout = measure(contents, &mut |visit| versions(view, &|| tx.is_closed(), visit))?;
    let mut chunks = Chunks {
        tx,
        version: contents.storage_version.clone().unwrap_or_default(),
        left: layout.size_bytes(),
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        sum: Summed::default(),
    };
    write(layout, contents, &mut |visit| versions(view, &|| tx.is_closed(), visit), &mut |page| chunks.push(page))?;
    chunks.finish()?;
    Ok(layout.size_bytes())
}

/// Cuts pages into messages.
struct Chunks<'t> {
    tx: &'t Sender,
    version: String,
    /// Bytes of the database still to come.
    left: u64,
    buffer: BytesMut,
    sum: Summed,
}

impl Chunks<'_> {
    fn push(&mut self, mut page: &[u8]) -> Result<(), SnapshotError> {
        self.sum.update(page);
        while !page.is_empty() {
            let taken = page.len().min(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&page[..taken]);
            page = &page[taken..];
            if self.buffer.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let blob = self.buffer.split().freeze();
        self.left = self.left.saturating_sub(blob.len() as u64);
        self.send(blob)
    }

    fn send(&self, blob: Bytes) -> Result<(), SnapshotError> {
        let response =
            SnapshotResponse { header: None, remaining_bytes: self.left, blob, version: self.version.clone() };
        self.tx.blocking_send(Ok(response)).map_err(|_| SnapshotError::Gone)
    }

    fn finish(mut self) -> Result<(), SnapshotError> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        let sum = std::mem::take(&mut self.sum).finish();
        self.send(Bytes::copy_from_slice(&sum))
    }
}

/// The history of a view as the snapshot has it.
fn versions(view: &View, is_gone: &dyn Fn() -> bool, visit: &mut VersionVisit<'_>) -> Result<(), SnapshotError> {
    let mut outcome = Ok(());
    let mut seen = 0;
    view.versions(&mut |version| {
        seen += 1;
        outcome =
            if seen % VERSIONS_PER_LOOK == 0 && is_gone() { Err(SnapshotError::Gone) } else { visit(&record(version)) };
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(SnapshotError::source)?;
    outcome
}

fn record(version: Version) -> VersionRecord {
    let Version { revision, sub, change } = version;
    let (is_tombstone, kv) = match change {
        VersionChange::Put(kv, _) => (false, kv),
        VersionChange::Delete(key) => (true, KeyValue { key, ..KeyValue::default() }),
    };
    VersionRecord { key: BucketKey { revision, sub, is_tombstone }, kv: Some(kv) }
}

/// Everything of a view but its versions.
fn contents(context: &Context, view: &Arc<View>) -> Result<Contents, Status> {
    let position = view.position();
    let now = view.cluster_time();
    let remaining = |lease: &Lease| {
        // Zero would mean that nothing was noted.
        let seconds = i64::try_from(lease.deadline.millis_since(now).div_ceil(1000)).unwrap_or(i64::MAX);
        seconds.clamp(1, lease.ttl_seconds.max(1))
    };
    let leases = view.leases().map_err(IntoStatus::into_status)?;
    let roster = context.member.roster();
    let members = roster.members().iter().cloned().map(|member| MemberRecord {
        id: member.id,
        peer_urls: member.peer_urls,
        is_learner: member.is_learner,
        name: member.name,
        client_urls: member.client_urls,
    });
    Ok(Contents {
        consistent_index: position.map_or(0, |position| position.index),
        term: position.map_or(0, |position| position.term),
        compacted: view.compacted_revision(),
        cleaned: view.compacted_revision(),
        storage_version: Some(downgrade::cluster_version(view)?),
        cluster_version: Some(downgrade::cluster_version(view)?),
        downgrade: Some(downgrade::info(view)?),
        leases: leases
            .iter()
            .map(|lease| LeaseRecord {
                id: lease.id.0,
                ttl_seconds: lease.ttl_seconds,
                remaining_seconds: remaining(lease),
            })
            .collect(),
        alarms: view
            .alarms()
            .into_iter()
            .map(|alarm| AlarmRecord { member: alarm.member, alarm: alarm_number(alarm.kind) })
            .collect(),
        members: members.collect(),
        removed: roster.removed().collect(),
        auth: auth_records::records(view.auth()),
    })
}

fn alarm_number(kind: AlarmKind) -> i32 {
    match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    }
}
