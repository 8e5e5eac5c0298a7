//! What all services share.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prost::length_delimiter_len;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};
use xebec_proto::etcdserverpb::ResponseHeader;
use xebec_store_core::{Alarm, AlarmKind, Command, KeyRange, ReadView, RequestError, Response, Revision};
use xebec_store_disk::View;
use xebec_store_raft::Member;

use crate::{
    auth::Authenticator,
    metrics::Metrics,
    response_budget::ResponseBudget,
    status::{self, IntoStatus},
    upkeep::Health,
};

/// Metadata with which a client refuses members that see no leader (etcd `rpctypes.MetadataRequireLeaderKey`).
const REQUIRE_LEADER_KEY: &str = "hasleader";
/// What etcd counts around a request that it replicates: the request's field number (1), and a header (3) with the
/// request's number (1 + 9, sometimes 10).
const REPLICATED_ENVELOPE_BYTES: usize = 14;
/// Ranges read at the same time, for each core. More threads read no faster, and each keeps memory of its own.
const RANGE_TURNS_PER_CORE: usize = 4;
/// How old a measurement of the keyspace's size may be when the quota is checked.
const SIZE_AGE_MAX: Duration = Duration::from_secs(1);

/// Limits a server enforces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    /// 0: none.
    pub quota_bytes: i64,
    pub election_timeout: Duration,
    pub progress_interval: Duration,
    /// Bytes of responses in flight, all requests together.
    pub response_bytes_max: usize,
    /// Whether `/metrics` tells how long calls take.
    pub extensive_metrics: bool,
}

/// How large the keyspace was, and what was let in since.
struct Size {
    measured: Instant,
    live_bytes: u64,
    added_bytes: u64,
}

/// A running member as the services see it.
#[derive(Clone)]
pub(crate) struct Context {
    pub member: Member,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    /// Finds out who sends a request; see `auth`.
    pub authenticator: Arc<Authenticator>,
    pub responses: ResponseBudget,
    /// What the member's upkeep has found.
    pub health: Arc<Health>,
    /// Turns for reading a range from disk.
    pub range_turns: Arc<Semaphore>,
    size: Arc<Mutex<Option<Size>>>,
}

impl Context {
    pub fn new(member: Member, limits: Limits, authenticator: Arc<Authenticator>) -> Self {
        let responses = ResponseBudget::new(limits.response_bytes_max);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            member,
            limits,
            metrics: Arc::new(Metrics::default()),
            authenticator,
            responses,
            health: Arc::default(),
            range_turns: Arc::new(Semaphore::new(cores * RANGE_TURNS_PER_CORE)),
            size: Arc::default(),
        }
    }

    /// A response's header.
    pub fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.member.cluster_id(),
            member_id: self.member.id(),
            revision: revision.0,
            raft_term: self.member.term(),
        }
    }

    /// Proposes a command and answers with its response.
    pub async fn propose(&self, command: Command) -> Result<Response, Status> {
        self.check_health()?;
        let pending = self.metrics.proposals_pending.hold();
        let outcome = self.member.propose(command).await.map_err(|failure| {
            self.metrics.proposals_failed.inc();
            failure.into_status()
        })?;
        drop(pending);
        outcome.map_err(IntoStatus::into_status)
    }

    /// The keyspace; with everything acknowledged so far, unless `serializable`.
    pub async fn view(&self, serializable: bool) -> Result<Arc<View>, Status> {
        self.check_health()?;
        self.any_view(serializable).await
    }

    /// As [`Context::view`], whatever is known of this member's data: for what tells about the member, not about keys.
    pub async fn any_view(&self, serializable: bool) -> Result<Arc<View>, Status> {
        if !serializable {
            self.member.linearizable().await.map_err(|failure| {
                self.metrics.read_indexes_failed.inc();
                failure.into_status()
            })?;
        }
        Ok(self.member.keyspace().view())
    }

    /// Refuses everything once this member's data is known to be corrupt.
    pub fn check_health(&self) -> Result<(), Status> {
        if self.health.is_corrupt() { Err(RequestError::Corrupt.into_status()) } else { Ok(()) }
    }

    /// Refuses a request that is too large to replicate, `request_bytes` long. Called after validation and only for
    /// what is replicated, as in etcd (`EtcdServer.processInternalRaftRequestOnce`).
    pub fn check_size(&self, request_bytes: usize) -> Result<(), Status> {
        let replicated = request_bytes + length_delimiter_len(request_bytes) + REPLICATED_ENVELOPE_BYTES;
        if replicated > self.limits.request_bytes_max {
            return Err(status::request_too_large());
        }
        Ok(())
    }

    /// Whether the client wants a member that sees a leader.
    pub fn requires_leader(metadata: &MetadataMap) -> bool {
        metadata.get(REQUIRE_LEADER_KEY).is_some_and(|value| value == "true")
    }

    /// Refuses a client that asked for a leader while there is none.
    pub fn check_leader(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if Self::requires_leader(metadata) && self.member.leaders().borrow().is_none() {
            return Err(status::no_leader());
        }
        Ok(())
    }

    /// Refuses what makes the store grow beyond its quota by `added_bytes`, and raises the alarm.
    pub async fn check_quota(&self, added_bytes: usize) -> Result<(), Status> {
        if self.member.keyspace().view().alarms().iter().any(|alarm| alarm.kind == AlarmKind::NoSpace) {
            // What would be refused when it is applied need not fill the log.
            return Err(RequestError::NoSpace.into_status());
        }
        if self.member.lacks_room() {
            // The disk was filled by somebody else, faster than an alarm can be raised.
            return Err(RequestError::NoSpace.into_status());
        }
        if self.limits.quota_bytes <= 0 || self.fits(added_bytes as u64, self.limits.quota_bytes as u64).await? {
            return Ok(());
        }
        self.health.note_no_space();
        let alarm = Alarm { member: self.member.id(), kind: AlarmKind::NoSpace };
        self.propose(Command::AlarmActivate(alarm)).await?;
        Err(RequestError::NoSpace.into_status())
    }

    /// While space is short, refuses a deletion that needs more than there is: what is deleted stays in the history until it
    /// is compacted, so that for a moment it takes its space twice, and a deletion is applied as a whole.
    pub async fn check_room_to_delete(&self, range: &KeyRange) -> Result<(), Status> {
        if matches!(range, KeyRange::Key(_)) || self.member.keyspace().view().alarms().is_empty() {
            return Ok(());
        }
        let (keyspace, range) = (self.member.keyspace().clone(), range.clone());
        let needed_bytes = blocking(move || Ok(keyspace.estimate_bytes(&range))).await?;
        let spare_bytes = self.health.spare_bytes();
        if needed_bytes <= spare_bytes {
            return Ok(());
        }
        tracing::warn!(
            needed_bytes,
            spare_bytes,
            "refused a deletion for want of space: delete less at a time, and compact in between"
        );
        Err(RequestError::NoSpace.into_status())
    }

    /// Whether so many bytes more stay within the quota: by the last measurement and what was let in since, or by a new one
    /// where that is too old, or says no.
    async fn fits(&self, added_bytes: u64, quota_bytes: u64) -> Result<bool, Status> {
        if let Some(size) = self.size.lock().as_mut()
            && size.measured.elapsed() < SIZE_AGE_MAX
            && size.live_bytes + size.added_bytes + added_bytes <= quota_bytes
        {
            size.added_bytes += added_bytes;
            return Ok(true);
        }
        let keyspace = self.member.keyspace().clone();
        let live_bytes = blocking(move || keyspace.sizes().map_err(IntoStatus::into_status)).await?.live_bytes;
        *self.size.lock() = Some(Size { measured: Instant::now(), live_bytes, added_bytes });
        Ok(live_bytes + added_bytes <= quota_bytes)
    }
}

/// Runs work that may wait for the disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    xebec_store_raft::blocking(work).await.map_err(IntoStatus::into_status)?
}
