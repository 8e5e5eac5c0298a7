//! Keep-alives of leases: everyone who waits shares one question to the leader.
//!
//! etcd renews in the leader's memory, one request at a time over the peer port. Here a renewal also proves that the leader
//! still leads, which costs a round to a quorum; shared, it costs next to nothing.

use tokio::sync::{mpsc, oneshot};
use xebec_proto::xebec::peer::v1::LeaseRenewRequest;
use xebec_store_core::{KeepAlive, LeaseDeadline, LeaseId};

use crate::{error::RequestFailure, member::Member};

/// Renewals that may wait.
pub(crate) const RENEWALS_WAITING_MAX: usize = 20_000;
/// Renewals in one question.
pub(crate) const RENEWALS_PER_ROUND_MAX: usize = 4_096;

/// Seconds that a lease was renewed for; `None`: there is no such lease.
pub(crate) type Renewed = Option<i64>;

/// A lease that somebody keeps alive.
pub(crate) struct Renewal {
    pub id: LeaseId,
    pub reply: oneshot::Sender<Result<Renewed, RequestFailure>>,
}

/// Answers renewals, round by round, until the channel closes.
pub(crate) async fn run(member: Member, mut renewals: mpsc::Receiver<Renewal>) {
    let mut round = Vec::new();
    while renewals.recv_many(&mut round, RENEWALS_PER_ROUND_MAX).await > 0 {
        let ids: Vec<LeaseId> = round.iter().map(|renewal| renewal.id).collect();
        let answer = renew(&member, ids).await;
        for (number, renewal) in round.drain(..).enumerate() {
            let renewed = match &answer {
                Ok(renewed) => renewed.get(number).copied().ok_or(RequestFailure::LeaderChanged),
                Err(failure) => Err(failure.clone()),
            };
            if renewal.reply.send(renewed).is_err() {
                tracing::trace!("a lease's holder went away");
            }
        }
    }
}

async fn renew(member: &Member, ids: Vec<LeaseId>) -> Result<Vec<Renewed>, RequestFailure> {
    let ids = &ids;
    member
        .at_leader(
            || member.renew_leases_as_leader(ids),
            |mut client| async move {
                let request = LeaseRenewRequest { ids: ids.iter().map(|id| id.0).collect() };
                let answer = client.lease_renew(request).await?.into_inner();
                Ok(answer.ttl_seconds.into_iter().map(|seconds| Some(seconds).filter(|seconds| *seconds > 0)).collect())
            },
        )
        .await
}

impl Member {
    /// Renews leases here, where the leader is.
    pub(crate) async fn renew_leases_as_leader(&self, ids: &[LeaseId]) -> Result<Vec<Renewed>, RequestFailure> {
        // Only the leader of the moment may promise anything.
        self.confirm_leadership().await?;
        let answers = self.leases().with(|table, now| {
            let answers: Vec<KeepAlive> = ids.iter().map(|id| table.keep_alive(*id, now)).collect();
            (answers, now)
        });
        let (answers, now) = answers.ok_or(RequestFailure::NotLeader)?;
        let mut checkpoints: Vec<LeaseDeadline> = Vec::new();
        let renewed = answers
            .into_iter()
            .map(|answer| match answer {
                KeepAlive::NotFound => None,
                KeepAlive::Renewed { ttl_seconds } => Some(ttl_seconds),
                KeepAlive::RenewedAfterCheckpoint { ttl_seconds, checkpoint } => {
                    checkpoints.push(checkpoint);
                    Some(ttl_seconds)
                }
            })
            .collect();
        if !checkpoints.is_empty() {
            self.propose_checkpoint(now, checkpoints).await?;
        }
        Ok(renewed)
    }
}
