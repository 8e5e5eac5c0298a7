//! The leader's leases: deadlines in memory, expiries and checkpoints proposed.

use std::time::Duration;

use openraft::impls::ProgressResponder;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use xebec_planted::{PlantedBug, is_planted};
use xebec_store_core::{
    Applied, ClusterClock, ClusterTime, Command, LeaseCheckpoint, LeaseDeadline, LeaseId, LeaseRevoke, LeaseTable,
    ReadView,
};

use crate::{
    error::RequestFailure,
    member::{Member, REQUEST_TIMEOUT},
    proposer::limited,
    types::{Batch, Outcome},
};

/// How often expiries and checkpoints are looked for while there are leases. The cluster's clock must be read more
/// often than `CLOCK_STEP_MILLIS_MAX`.
const TICK: Duration = Duration::from_millis(250);
/// A checkpoint is considered every so many ticks: once a second.
const CHECKPOINT_TICKS: u32 = 4;

/// The lease table while this member leads, nothing otherwise.
#[derive(Debug)]
pub(crate) struct LeaseDesk {
    origin: Instant,
    leading: Mutex<Option<Leading>>,
    changed: Notify,
}

#[derive(Debug)]
struct Leading {
    term: u64,
    table: LeaseTable,
    clock: ClusterClock,
}

/// A lease's granted and remaining seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLife {
    /// The TTL it was granted.
    pub granted_seconds: i64,
    /// Whole seconds left.
    pub left_seconds: i64,
}

impl LeaseDesk {
    pub fn new() -> Self {
        Self { origin: Instant::now(), leading: Mutex::new(None), changed: Notify::new() }
    }

    fn reading_millis(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins to lead: the table continues from what is replicated.
    pub fn promote(
        &self,
        term: u64,
        view: impl FnOnce() -> std::sync::Arc<xebec_store_disk::View>,
    ) -> Result<(), String> {
        // The view is taken under the lock: what is applied after it is observed after it.
        let mut leading = self.leading.lock();
        let view = view();
        let now = view.cluster_time();
        let mut leases = view.leases().map_err(|error| error.to_string())?;
        if is_planted(PlantedBug::ForgetLease) {
            leases.pop();
        }
        *leading = Some(Leading {
            term,
            table: LeaseTable::promoted(now, leases),
            clock: ClusterClock::resume(now, self.reading_millis()),
        });
        self.changed.notify_one();
        Ok(())
    }

    /// Leads no longer.
    pub fn demote(&self) {
        *self.leading.lock() = None;
        self.changed.notify_one();
    }

    /// Follows what was applied.
    pub fn observe(&self, applied: &[Applied]) {
        let mut leading = self.leading.lock();
        if let Some(Leading { table, clock, .. }) = leading.as_mut() {
            let was_empty = table.is_empty();
            let now = clock.advance(self.reading_millis());
            applied.iter().for_each(|applied| table.observe(applied, now));
            if was_empty && !table.is_empty() {
                self.changed.notify_one();
            }
        }
    }

    /// The cluster's time, if this member leads.
    pub fn now(&self) -> Option<ClusterTime> {
        let mut leading = self.leading.lock();
        leading.as_mut().map(|leading| leading.clock.advance(self.reading_millis()))
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut LeaseTable, ClusterTime) -> T) -> Option<T> {
        let mut leading = self.leading.lock();
        let Leading { table, clock, .. } = leading.as_mut()?;
        let now = clock.advance(self.reading_millis());
        Some(act(table, now))
    }

    fn is_idle(&self) -> bool {
        self.leading.lock().as_ref().is_none_or(|leading| leading.table.is_empty())
    }

    fn term(&self) -> Option<u64> {
        self.leading.lock().as_ref().map(|leading| leading.term)
    }
}

impl Member {
    /// What is left of a lease, where the leader is.
    pub(crate) async fn lease_life_as_leader(&self, id: LeaseId) -> Result<Option<LeaseLife>, RequestFailure> {
        self.confirm_leadership().await?;
        let life = self.leases().with(|table, now| table.time_to_live(id, now)).ok_or(RequestFailure::NotLeader)?;
        Ok(life.map(|(granted_seconds, left_seconds)| LeaseLife { granted_seconds, left_seconds }))
    }

    /// Proposes a command here, and only while this member leads in that term. What a leader decides about leases must
    /// not be forwarded to the next one: a leader that was stalled or paused believes leases to have expired that were
    /// renewed elsewhere meanwhile (etcd-io/etcd issue 15247).
    async fn propose_as_leader_of(&self, term: Option<u64>, command: Command) -> Result<Outcome, RequestFailure> {
        let term = term.ok_or(RequestFailure::NotLeader)?;
        let (responder, answer) = ProgressResponder::complete_only();
        let batch = Batch([command].into());
        let proposed = self.raft().write(batch).responder(responder).with_leader(term).await;
        proposed.map_err(|_| RequestFailure::Stopped)?;
        let answer = limited(REQUEST_TIMEOUT, answer).await?.map_err(|_| RequestFailure::Stopped)?;
        let mut outcomes = answer.map_err(|_| RequestFailure::NotLeader)?.data.0;
        outcomes.pop().ok_or_else(|| RequestFailure::Malformed("no outcome".to_owned()))
    }

    pub(crate) async fn propose_checkpoint(
        &self,
        now: ClusterTime,
        deadlines: Vec<LeaseDeadline>,
    ) -> Result<(), RequestFailure> {
        let command = Command::LeaseCheckpoint(LeaseCheckpoint { now, deadlines });
        match self.propose_as_leader_of(self.leases().term(), command).await? {
            Ok(_) => Ok(()),
            Err(refusal) => {
                tracing::warn!(%refusal, "a lease checkpoint was refused");
                Ok(())
            }
        }
    }
}

/// Revokes expired leases and replicates deadlines, while this member leads. Sleeps while there is nothing to do.
pub(crate) async fn run(member: Member) {
    let desk = member.leases();
    let mut ticks = 0;
    loop {
        if desk.is_idle() {
            desk.changed.notified().await;
            continue;
        }
        time::sleep(TICK).await;
        ticks += 1;
        let Some(expired) = desk.with(|table, now| table.expired(now)) else {
            continue;
        };
        if !expired.is_empty() {
            revoke(&member, expired).await;
        }
        if ticks % CHECKPOINT_TICKS == 0
            && let Some((now, Some(deadlines))) = desk.with(|table, now| (now, table.checkpoint(now)))
            && let Err(error) = member.propose_checkpoint(now, deadlines).await
        {
            tracing::debug!(%error, "lease deadlines could not be replicated");
        }
    }
}

async fn revoke(member: &Member, ids: Vec<LeaseId>) {
    let term = member.leases().term();
    let command = Command::LeaseRevoke(LeaseRevoke { ids: ids.clone() });
    match member.propose_as_leader_of(term, command).await {
        Ok(Ok(_)) => tracing::debug!(leases = ids.len(), "expired leases were revoked"),
        Ok(Err(refusal)) => tracing::debug!(%refusal, "expired leases were gone already"),
        Err(error) => {
            tracing::debug!(%error, "expired leases could not be revoked yet");
            if member.leases().term() == term {
                member.leases().with(|table, _| table.expiry_failed(&ids));
            }
        }
    }
}
