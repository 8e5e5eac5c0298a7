//! Proposals: everything that waits goes into one log entry, here or at the leader.

use std::{sync::Arc, time::Duration};

use openraft::errors::{ClientWriteError, RaftError};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, Status};
use xebec_planted::{PlantedBug, is_planted};
use xebec_proto::{was_not_sent, xebec::peer::v1::ProposeRequest};
use xebec_store_core::{Command, apply_all};

use crate::{
    error::RequestFailure,
    member::Member,
    types::{Batch, MemberId, Outcome},
    wire,
};

/// Commands in one log entry.
pub(crate) const BATCH_COMMANDS_MAX: usize = 4_096;
/// Bytes of commands in one log entry; one larger command still fits alone.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Entries that may be committed and not yet applied here before nothing more is proposed (etcd
/// `server/etcdserver/v3_server.go`, `maxGapBetweenApplyAndCommitIndex`).
const UNAPPLIED_ENTRIES_MAX: u64 = 5_000;
/// Entries proposed and not yet applied. While so many are under way, proposals gather for the next: one is on its way to
/// the disks while another is applied.
const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// Proposals that may wait (etcd refuses at 5,000 entries between committed and applied).
pub(crate) const PROPOSALS_WAITING_MAX: usize = 20_000;
/// Pause before a request that nobody took is tried again, unless the leader changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may still come after the leader it was asked of was replaced.
const CHANGED_GRACE: Duration = Duration::from_millis(300);

pub(crate) struct Proposal {
    pub command: Command,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Outcome, RequestFailure>>,
}

/// Why a batch got no outcomes.
enum Failure {
    /// Surely not proposed: may be tried again.
    Untouched,
    /// Must be answered.
    Final(RequestFailure),
}

/// Gathers proposals into batches and sees each through, until the channel closes.
pub(crate) async fn run(member: Member, mut proposals: mpsc::Receiver<Proposal>) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
    let mut next = None;
    loop {
        let Some(first) = (match next.take() {
            Some(proposal) => Some(proposal),
            None => proposals.recv().await,
        }) else {
            return;
        };
        let Ok(permit) = in_flight.clone().acquire_owned().await else {
            return;
        };
        let mut bytes = wire::weight_bytes(&first.command);
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(proposal) = proposals.try_recv()
        {
            bytes += wire::weight_bytes(&proposal.command);
            if bytes > BATCH_BYTES_MAX {
                next = Some(proposal);
                break;
            }
            batch.push(proposal);
        }
        let member = member.clone();
        tokio::spawn(async move {
            submit(&member, batch).await;
            drop(permit);
        });
    }
}

async fn submit(member: &Member, proposals: Vec<Proposal>) {
    let deadline = proposals.iter().map(|proposal| proposal.deadline).max().unwrap_or_else(Instant::now);
    let (commands, replies): (Vec<_>, Vec<_>) =
        proposals.into_iter().map(|proposal| (proposal.command, proposal.reply)).unzip();
    let result = match member.unapplied_entries() {
        0..=UNAPPLIED_ENTRIES_MAX => submit_commands(member, commands, deadline).await,
        _ => Err(RequestFailure::TooManyRequests),
    };
    let outcomes: Vec<Result<Outcome, RequestFailure>> = match result {
        Ok(outcomes) if outcomes.len() == replies.len() => outcomes.into_iter().map(Ok).collect(),
        Ok(outcomes) => {
            let reason = format!("{} outcomes for {} commands", outcomes.len(), replies.len());
            replies.iter().map(|_| Err(RequestFailure::Malformed(reason.clone()))).collect()
        }
        Err(failure) => replies.iter().map(|_| Err(failure.clone())).collect(),
    };
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        if reply.send(outcome).is_err() {
            tracing::trace!("a client went away before its proposal was applied");
        }
    }
}

/// Proposes commands as one entry at whoever leads, again and again while it is sure that nobody took them.
async fn submit_commands(
    member: &Member,
    commands: Vec<Command>,
    deadline: Instant,
) -> Result<Vec<Outcome>, RequestFailure> {
    let commands: Arc<[Command]> = commands.into();
    let mut leaders = member.leaders();
    loop {
        let leader = *leaders.borrow_and_update();
        let result = match leader {
            Some(leader) if leader == member.id() => propose_here(member, &commands, deadline).await,
            Some(leader) => propose_at(member, leader, &commands, deadline).await,
            None => Err(Failure::Untouched),
        };
        match result {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::Final(failure)) => return Err(failure),
            Err(Failure::Untouched) if Instant::now() >= deadline => return Err(RequestFailure::NoLeader),
            Err(Failure::Untouched) => pause(&mut leaders, leader, deadline).await,
        }
    }
}

/// Waits for another leader: for long if there is none, briefly if the known one does not answer.
pub(crate) async fn pause(
    leaders: &mut tokio::sync::watch::Receiver<Option<MemberId>>,
    leader: Option<MemberId>,
    deadline: Instant,
) {
    let until = if leader.is_some() { Instant::now() + RETRY_PAUSE } else { deadline };
    if let Ok(Err(closed)) = timeout_at(until.min(deadline), leaders.changed()).await {
        tracing::debug!(%closed, "Raft has stopped");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn propose_here(member: &Member, commands: &Arc<[Command]>, deadline: Instant) -> Result<Vec<Outcome>, Failure> {
    let batch = Batch(member.stamp(commands));
    if is_planted(PlantedBug::AcknowledgeBeforeQuorum) {
        return answer_early(member, batch).await;
    }
    match timeout_at(deadline, member.raft().client_write(batch)).await {
        Ok(Ok(response)) => Ok(response.data.0),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(Failure::Untouched),
        Ok(Err(RaftError::APIError(error))) => {
            tracing::debug!(%error, "a proposal was lost");
            Err(Failure::Final(RequestFailure::LeaderChanged))
        }
        Ok(Err(RaftError::Fatal(fatal))) => {
            tracing::error!(%fatal, "Raft has stopped");
            Err(Failure::Final(RequestFailure::Stopped))
        }
        Err(_) => Err(Failure::Final(RequestFailure::Timeout)),
    }
}

/// The planted bug: what a majority has not confirmed in good time is answered as if it had.
async fn answer_early(member: &Member, batch: Batch) -> Result<Vec<Outcome>, Failure> {
    match timeout(RETRY_PAUSE, member.raft().client_write(batch.clone())).await {
        Ok(Ok(response)) => Ok(response.data.0),
        Ok(Err(_)) => Err(Failure::Untouched),
        Err(_) => match apply_all(&*member.keyspace().view(), batch.0.iter()) {
            Ok(applied) => Ok(applied.into_iter().map(|applied| applied.result).collect()),
            Err(_) => Err(Failure::Final(RequestFailure::Stopped)),
        },
    }
}

async fn propose_at(
    member: &Member,
    leader: MemberId,
    commands: &Arc<[Command]>,
    deadline: Instant,
) -> Result<Vec<Outcome>, Failure> {
    let Some(mut client) = member.leader_client(leader) else {
        return Err(Failure::Untouched);
    };
    let malformed = |error: wire::WireError| Failure::Final(RequestFailure::Malformed(error.to_string()));
    let encoded: Result<Vec<_>, _> = commands.iter().map(|command| wire::encode(command).map(Into::into)).collect();
    let request = ProposeRequest { format: u32::from(wire::FORMAT), commands: encoded.map_err(malformed)? };
    let call = client.propose(request);
    let response = watched(member, leader, deadline, call).await?;
    response.into_inner().outcomes.iter().map(|outcome| wire::decode(outcome).map_err(malformed)).collect()
}

/// Awaits an answer of the leader, but not for long once another one leads.
async fn watched<T>(
    member: &Member,
    leader: MemberId,
    deadline: Instant,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    let mut leaders = member.leaders();
    let replaced = async {
        if leaders.wait_for(|now| *now != Some(leader)).await.is_ok() {
            tokio::time::sleep(CHANGED_GRACE).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = timeout_at(deadline, call) => match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) => Err(classify(&status)),
            Err(_) => Err(Failure::Final(RequestFailure::Timeout)),
        },
        () = replaced => Err(Failure::Final(RequestFailure::LeaderChanged)),
    }
}

fn classify(status: &Status) -> Failure {
    if is_untouched(status) {
        return Failure::Untouched;
    }
    match status.code() {
        Code::ResourceExhausted => Failure::Final(RequestFailure::TooManyRequests),
        Code::DeadlineExceeded => Failure::Final(RequestFailure::Timeout),
        _ => {
            tracing::debug!(%status, "the leader's answer was lost");
            Failure::Final(RequestFailure::LeaderChanged)
        }
    }
}

/// Whether a call surely did nothing: the other side does not lead, or could not even be connected to.
pub(crate) fn is_untouched(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition || was_not_sent(status)
}

/// Awaits `future` no longer than `limit`, as a request failure.
pub(crate) async fn limited<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, RequestFailure> {
    timeout(limit, future).await.map_err(|_| RequestFailure::Timeout)
}
