//! Linearizable reads: one read index serves everyone who was waiting when it was asked for.

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use xebec_planted::{PlantedBug, is_planted};
use xebec_proto::xebec::peer::v1::ReadIndexRequest;

use crate::{
    error::RequestFailure,
    member::{Member, REQUEST_TIMEOUT},
    proposer::pause,
};

/// Readers that may wait for an index.
pub(crate) const READERS_WAITING_MAX: usize = 20_000;

pub(crate) type ReadReply = oneshot::Sender<Result<u64, RequestFailure>>;

/// Answers readers with indexes, round by round, until the channel closes.
pub(crate) async fn run(member: Member, mut readers: mpsc::Receiver<ReadReply>) {
    while let Some(first) = readers.recv().await {
        let mut round = vec![first];
        while let Ok(reader) = readers.try_recv() {
            round.push(reader);
        }
        let index = read_index(&member, Instant::now() + REQUEST_TIMEOUT).await;
        for reader in round {
            if reader.send(index.clone()).is_err() {
                tracing::trace!("a reader went away");
            }
        }
    }
}

/// The planted bug: whoever was elected last, as far as it knows, is taken to lead still.
fn stale_index(member: &Member) -> Option<u64> {
    (is_planted(PlantedBug::StaleRead) && member.leads_in_term().is_some()).then(|| *member.feed().applied().borrow())
}

/// An index that covers every write acknowledged before this call.
async fn read_index(member: &Member, deadline: Instant) -> Result<u64, RequestFailure> {
    if let Some(index) = stale_index(member) {
        return Ok(index);
    }
    let mut leaders = member.leaders();
    loop {
        let leader = *leaders.borrow_and_update();
        let index = match leader {
            Some(leader) if leader == member.id() => read_index_here(member, deadline).await?,
            Some(leader) => {
                let asked = async {
                    match member.leader_client(leader) {
                        Some(mut client) => client.read_index(ReadIndexRequest {}).await.ok(),
                        None => None,
                    }
                };
                // A read may be asked again of whoever leads next.
                tokio::select! {
                    answer = timeout_at(deadline, asked) => answer.ok().flatten().map(|answer| answer.into_inner().index),
                    changed = leaders.changed() => {
                        if changed.is_err() {
                            return Err(RequestFailure::Stopped);
                        }
                        continue;
                    }
                }
            }
            None => None,
        };
        match index {
            Some(index) => return Ok(index),
            None if Instant::now() >= deadline => return Err(RequestFailure::NoLeader),
            None => pause(&mut leaders, leader, deadline).await,
        }
    }
}

/// `None` if this member does not lead (any more), or cannot reach enough others.
async fn read_index_here(member: &Member, deadline: Instant) -> Result<Option<u64>, RequestFailure> {
    if let Some(index) = stale_index(member) {
        return Ok(Some(index));
    }
    match timeout_at(deadline, member.raft().get_read_log_id(ReadPolicy::ReadIndex)).await {
        Ok(Ok((read, _))) => Ok(Some(read.index())),
        Ok(Err(RaftError::APIError(
            LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
        ))) => Ok(None),
        Ok(Err(RaftError::Fatal(_))) => Err(RequestFailure::Stopped),
        Err(_) => Err(RequestFailure::Timeout),
    }
}
