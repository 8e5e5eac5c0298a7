//! A member of the cluster: the handle through which everything else uses the replicated store.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::{
    Raft, ServerState,
    async_runtime::watch::WatchReceiver,
    errors::{InitializeError, RaftError},
};
use parking_lot::Mutex;
use tokio::{
    runtime::{Handle, Runtime},
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use xebec_proto::xebec::peer::v1::{LeaseRemainingRequest, leader_client::LeaderClient};
use xebec_store_core::{ClusterTime, Command, LeaseId};
use xebec_store_disk::Keyspace;
use xebec_store_log::DurationCounts;

use crate::{
    departure::Departure,
    error::RequestFailure,
    feed::Feed,
    leases::{self, LeaseDesk, LeaseLife},
    papers::Papers,
    peers::{Dialer, PeerChannel, Peers},
    proposer::{self, Proposal, limited, pause},
    quorum::{Heard, leader_in_touch},
    reader::{self, ReadReply},
    reconfiguration::ReconfigurationLimits,
    renewals::{self, Renewal},
    state_machine::{Machine, StateMachine},
    traffic::{PeerCounts, Traffic},
    types::{MemberId, MemberNode, Outcome, TypeConfig},
};

/// How long a request may take, a change of leader included (etcd: 5 s plus two election timeouts).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// A running member. Clones are handles to the same.
#[derive(Clone)]
pub struct Member(Arc<Inner>);

pub(crate) struct Inner {
    pub id: MemberId,
    pub cluster_id: u64,
    pub raft: Raft<TypeConfig, StateMachine>,
    pub machine: Arc<Machine>,
    pub peers: Arc<Peers>,
    pub papers: Arc<Papers>,
    pub departure: Arc<Departure>,
    pub heard: Heard,
    /// The other members that a member without memory asks, and itself.
    pub first_members: BTreeMap<MemberId, MemberNode>,
    pub limits: ReconfigurationLimits,
    pub election_timeout: Duration,
    /// Held while the leader changes the membership.
    pub reconfiguring: tokio::sync::Mutex<()>,
    pub proposals: mpsc::Sender<Proposal>,
    pub readers: mpsc::Sender<ReadReply>,
    pub renewals: mpsc::Sender<Renewal>,
    pub leaders: watch::Sender<Option<MemberId>>,
    pub handle: Handle,
    pub runtime: Mutex<Option<Runtime>>,
    pub stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not be dropped where one is running.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// The ends at which requests of this member arrive.
pub(crate) struct Queues {
    pub proposals: mpsc::Receiver<Proposal>,
    pub readers: mpsc::Receiver<ReadReply>,
    pub renewals: mpsc::Receiver<Renewal>,
}

/// Why a request could not even be queued.
fn refused<T>(error: mpsc::error::TrySendError<T>) -> RequestFailure {
    match error {
        mpsc::error::TrySendError::Full(_) => RequestFailure::TooManyRequests,
        mpsc::error::TrySendError::Closed(_) => RequestFailure::Stopped,
    }
}

/// What this member knows about itself and the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The current term.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<MemberId>,
    /// Index of the last entry in the log.
    pub last_index: u64,
    /// Index of the last entry that is known to be committed.
    pub committed_index: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Whether this member does not vote.
    pub is_learner: bool,
    /// Why the member has stopped by itself: Raft met an error, or the member is one no longer.
    pub failed: Option<String>,
}

impl Member {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// This member's id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.0.id
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.0.cluster_id
    }

    /// The keyspace as this member has it.
    #[must_use]
    pub fn keyspace(&self) -> &Arc<Keyspace> {
        &self.0.machine.keyspace
    }

    /// The newest events and how far this member has come.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.0.machine.feed
    }

    /// The runtime that Raft has for itself; the peer port is served there.
    #[must_use]
    pub fn raft_runtime(&self) -> &Handle {
        &self.0.handle
    }

    /// Follows who leads.
    #[must_use]
    pub fn leaders(&self) -> watch::Receiver<Option<MemberId>> {
        self.0.leaders.subscribe()
    }

    /// Whether this member thinks it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.0.leaders.borrow() == Some(self.0.id)
    }

    /// Cancelled when the member stops, by request or because Raft failed.
    #[must_use]
    pub fn stopped(&self) -> &CancellationToken {
        &self.0.stop
    }

    pub(crate) fn raft(&self) -> &Raft<TypeConfig, StateMachine> {
        &self.0.raft
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.0.machine
    }

    pub(crate) fn papers(&self) -> &Arc<Papers> {
        &self.0.papers
    }

    pub(crate) fn departure(&self) -> &Arc<Departure> {
        &self.0.departure
    }

    pub(crate) fn first_members(&self) -> &BTreeMap<MemberId, MemberNode> {
        &self.0.first_members
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        self.0.peers.traffic()
    }

    /// What was said to and by each other member since the start.
    #[must_use]
    pub fn peer_counts(&self) -> Vec<(MemberId, Arc<PeerCounts>)> {
        self.traffic().all().into_iter().filter(|(id, _)| *id != 0).collect()
    }

    /// How long commits to the keyspace took since the start.
    #[must_use]
    pub fn commits(&self) -> DurationCounts {
        self.0.machine.commits.counts()
    }

    /// How long fsyncs of the log took since the start.
    #[must_use]
    pub fn log_fsyncs(&self) -> DurationCounts {
        self.0.machine.log.fsyncs()
    }

    /// Bytes of entries that were written to the log since the start.
    #[must_use]
    pub fn log_written_bytes(&self) -> u64 {
        self.0.machine.log.written_bytes()
    }

    /// Entries that are committed and not yet applied here.
    pub(crate) fn unapplied_entries(&self) -> u64 {
        let metrics = self.0.raft.metrics();
        let committed = metrics.borrow_watched().local_committed.as_ref().map_or(0, |committed| committed.index);
        committed.saturating_sub(*self.feed().applied().borrow())
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.0.heard
    }

    pub(crate) fn limits(&self) -> ReconfigurationLimits {
        self.0.limits
    }

    pub(crate) fn election_timeout(&self) -> Duration {
        self.0.election_timeout
    }

    pub(crate) fn reconfiguring(&self) -> &tokio::sync::Mutex<()> {
        &self.0.reconfiguring
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        self.0.peers.dialer()
    }

    pub(crate) fn leases(&self) -> Arc<LeaseDesk> {
        self.0.machine.leases.clone()
    }

    /// Replicates a command and answers with what came of it.
    ///
    /// # Errors
    /// See [`RequestFailure`] for which of them leave it open whether the command happened.
    pub async fn propose(&self, command: Command) -> Result<Outcome, RequestFailure> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { command, deadline: Instant::now() + REQUEST_TIMEOUT, reply };
        self.0.proposals.try_send(proposal).map_err(refused)?;
        answer.await.unwrap_or(Err(RequestFailure::Stopped))
    }

    /// Queues all of these commands, or none: then the error is true of each. What comes of each is in its answer.
    pub(crate) fn queue_all(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<impl Future<Output = Result<Outcome, RequestFailure>> + use<>>, RequestFailure> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let places = self.0.proposals.try_reserve_many(commands.len()).map_err(refused)?;
        let queue = |(place, command): (mpsc::Permit<'_, Proposal>, Command)| {
            let (reply, answer) = oneshot::channel();
            place.send(Proposal { command, deadline, reply });
            async { answer.await.unwrap_or(Err(RequestFailure::Stopped)) }
        };
        Ok(places.zip(commands).map(queue).collect())
    }

    /// Waits until this member shows everything that was acknowledged before the call.
    ///
    /// By read index, never by lease (Ongaro's thesis, section 6.4): the leader notes its commit index, at least that of
    /// the first entry of its own term, and then has a quorum answer heartbeats that were sent after the request came
    /// (openraft's `ReadPolicy::ReadIndex` reuses no earlier answer, not even one of the same instant). No clock takes
    /// part. A leader that was paused for however long wakes up with requests in its hands, but the heartbeats it then
    /// sends carry its old term, and whoever has voted since refuses them: no quorum, no index, no stale read. A member
    /// that follows asks the leader over the wire the same way, and waits until it has applied the index. The read
    /// itself comes after: a pause in between makes it late, and a late read of a state that was current at some moment
    /// between request and answer is linearizable.
    ///
    /// # Errors
    /// [`RequestFailure::NoLeader`], [`RequestFailure::Timeout`] and the like; nothing was changed.
    pub async fn linearizable(&self) -> Result<(), RequestFailure> {
        let index = self.read_index().await?;
        let mut applied = self.feed().applied();
        match limited(REQUEST_TIMEOUT, applied.wait_for(|applied| *applied >= index)).await? {
            Ok(_) => Ok(()),
            Err(_) => Err(RequestFailure::Stopped),
        }
    }

    /// An index that covers everything acknowledged before the call; shared with whoever asks at the same time.
    pub(crate) async fn read_index(&self) -> Result<u64, RequestFailure> {
        let (reply, answer) = oneshot::channel();
        self.0.readers.try_send(reply).map_err(refused)?;
        limited(REQUEST_TIMEOUT, answer).await?.unwrap_or(Err(RequestFailure::Stopped))
    }

    /// Confirms with a quorum that this member leads, and catches up with what it leads.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), RequestFailure> {
        if !self.leads() {
            return Err(RequestFailure::NotLeader);
        }
        self.linearizable().await?;
        if self.leads() { Ok(()) } else { Err(RequestFailure::NotLeader) }
    }

    /// Renews a lease at the leader, without a log entry. `None`: there is no such lease.
    ///
    /// # Errors
    /// [`RequestFailure::NoLeader`] if nobody led in time.
    pub async fn renew_lease(&self, id: LeaseId) -> Result<Option<i64>, RequestFailure> {
        let (reply, answer) = oneshot::channel();
        self.0.renewals.try_send(Renewal { id, reply }).map_err(refused)?;
        answer.await.unwrap_or(Err(RequestFailure::Stopped))
    }

    /// What is left of a lease, as the leader knows. `None`: there is no such lease.
    ///
    /// # Errors
    /// [`RequestFailure::NoLeader`] if nobody led in time.
    pub async fn lease_life(&self, id: LeaseId) -> Result<Option<LeaseLife>, RequestFailure> {
        self.at_leader(
            || self.lease_life_as_leader(id),
            |mut client| async move {
                let life = client.lease_remaining(LeaseRemainingRequest { id: id.0 }).await?.into_inner();
                Ok(life
                    .found
                    .then_some(LeaseLife { granted_seconds: life.granted_seconds, left_seconds: life.left_seconds }))
            },
        )
        .await
    }

    /// Asks the leader something that may safely be asked again, here or by call.
    pub(crate) async fn at_leader<T, Here, There>(
        &self,
        here: impl Fn() -> Here,
        there: impl Fn(LeaderClient<PeerChannel>) -> There,
    ) -> Result<T, RequestFailure>
    where
        Here: Future<Output = Result<T, RequestFailure>>,
        There: Future<Output = Result<T, tonic::Status>>,
    {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut leaders = self.leaders();
        loop {
            let leader = *leaders.borrow_and_update();
            let answer = match leader {
                Some(leader) if leader == self.id() => match here().await {
                    Err(RequestFailure::NotLeader | RequestFailure::NoLeader) => None,
                    answer => Some(answer?),
                },
                Some(leader) => match self.leader_client(leader) {
                    Some(client) => tokio::select! {
                        answer = limited(REQUEST_TIMEOUT, there(client)) => answer?.ok(),
                        changed = leaders.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => return Err(RequestFailure::Stopped),
                        },
                    },
                    None => None,
                },
                None => None,
            };
            match answer {
                Some(answer) => return Ok(answer),
                None if Instant::now() >= deadline => return Err(RequestFailure::NoLeader),
                None => pause(&mut leaders, leader, deadline).await,
            }
        }
    }

    pub(crate) fn leader_client(&self, leader: MemberId) -> Option<LeaderClient<PeerChannel>> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        self.0.peers.leader(leader, &metrics)
    }

    /// Fills in what only the leader knows.
    pub(crate) fn stamp(&self, commands: &Arc<[Command]>) -> Arc<[Command]> {
        let Some(now) = self.leases().now().filter(|_| commands.iter().any(Command::needs_stamp)) else {
            return commands.clone();
        };
        let stamped = commands.iter().cloned().map(|mut command| {
            command.stamp(now);
            command
        });
        stamped.collect()
    }

    /// Whether what is committed cannot be applied here for want of space.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        self.0.machine.waiting.lacks_room_for().is_some()
    }

    /// The cluster's time, if this member leads and has opened its lease desk.
    #[must_use]
    pub fn cluster_now(&self) -> Option<ClusterTime> {
        self.leases().now()
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.raft.metrics().borrow_watched().current_term
    }

    /// What this member knows now.
    #[must_use]
    pub fn status(&self) -> MemberStatus {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        MemberStatus {
            term: metrics.current_term,
            leader: *self.0.leaders.borrow(),
            last_index: metrics.last_log_index.unwrap_or(0),
            committed_index: metrics.local_committed.as_ref().map_or(0, |committed| committed.index),
            applied_index: *self.feed().applied().borrow(),
            is_learner: self.is_learner(),
            failed: self.departure().reason().or(metrics.running_state.as_ref().err().map(ToString::to_string)),
        }
    }

    /// Stops Raft and all its work. The log and the keyspace close when the last handle is gone.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.machine.log.stop_waiting();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        let runtime = self.0.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// Begins the cluster with these members; harmless if it has begun.
    pub(crate) async fn initialize(&self, members: BTreeMap<MemberId, MemberNode>) -> Result<(), String> {
        match self.0.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Starts the member's own work on Raft's runtime.
    pub(crate) fn spawn_work(&self, queues: Queues) {
        self.spawn(proposer::run(self.clone(), queues.proposals));
        self.spawn(reader::run(self.clone(), queues.readers));
        self.spawn(renewals::run(self.clone(), queues.renewals));
        self.spawn(leases::run(self.clone()));
        self.spawn(self.clone().follow_leadership());
        self.spawn(self.clone().follow_leases());
        self.spawn(self.clone().shorten_log());
        self.spawn(self.clone().clean_keyspace());
        self.spawn(self.clone().settle_voters());
        self.spawn(self.clone().yield_when_stalled());
        self.spawn(self.clone().end_on_departure());
        self.spawn(self.clone().follow_own_entry());
        self.spawn(self.clone().ask_about_removal());
    }

    /// Takes part as soon as that is right; ends if it never will be.
    pub(crate) fn spawn_admission(&self, is_new_cluster: bool) {
        let member = self.clone();
        self.spawn(async move {
            if let Err(error) = member.enter(is_new_cluster).await {
                member.departure().note(&error.to_string());
            }
        });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.handle.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Publishes who leads, and stops the member when Raft has failed.
    async fn follow_leadership(self) {
        let mut metrics = self.0.raft.metrics();
        loop {
            let (leader, failed) = {
                let now = metrics.borrow_watched();
                (
                    leader_in_touch(&now, self.id(), self.0.election_timeout, &self.0.heard),
                    now.running_state.clone().err(),
                )
            };
            if let Some(error) = failed {
                tracing::error!(%error, "Raft has stopped");
                self.0.leaders.send_replace(None);
                self.0.stop.cancel();
                return;
            }
            self.0.leaders.send_if_modified(|current| {
                let changed = *current != leader;
                if changed {
                    let leader = leader.map(|id| format!("{id:x}"));
                    tracing::info!(member = format!("{:x}", self.id()), ?leader, "leader changed");
                }
                *current = leader;
                changed
            });
            // Silence announces itself by nothing.
            if let Ok(Err(_)) = timeout(self.0.election_timeout / 4, metrics.changed()).await {
                self.0.leaders.send_replace(None);
                self.0.stop.cancel();
                return;
            }
        }
    }

    /// Opens and closes the lease desk as leadership comes and goes.
    async fn follow_leases(self) {
        let mut metrics = self.0.raft.server_metrics();
        let mut served_term = None;
        loop {
            let (leads, term) = {
                let now = metrics.borrow_watched();
                (now.state == ServerState::Leader, now.vote.leader_id.term)
            };
            if !leads {
                served_term = None;
                self.leases().demote();
            } else if served_term != Some(term) {
                // Everything that earlier leaders committed must be in the view that the table is made from.
                if self.linearizable().await.is_ok() {
                    let keyspace = self.keyspace().clone();
                    match self.leases().promote(term, || keyspace.view()) {
                        Ok(()) => served_term = Some(term),
                        Err(error) => tracing::error!(error, "the leases cannot be read"),
                    }
                }
                if served_term != Some(term) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets openraft see snapshots from now on.
    pub(crate) fn open_for_snapshots(&self) {
        self.0.machine.running.store(true, Ordering::Release);
    }
}
