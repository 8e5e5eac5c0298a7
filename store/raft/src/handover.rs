//! Leadership moved on purpose (etcd `MaintenanceServer.MoveLeader`, `EtcdServer.moveLeader`).

use crate::{
    error::RequestFailure,
    member::{Member, REQUEST_TIMEOUT},
    proposer::limited,
    types::MemberId,
};

impl Member {
    /// Hands leadership to another member and waits until it has it. Only the leader can, and only to a voter that
    /// answers: while leadership is under way nobody takes writes, which wait for the new leader.
    ///
    /// # Errors
    /// [`RequestFailure::NotLeader`]; [`RequestFailure::UnknownMember`] for one that does not exist or does not vote;
    /// [`RequestFailure::Timeout`] for one that does not answer, or when somebody else was elected.
    pub async fn move_leader(&self, target: MemberId) -> Result<(), RequestFailure> {
        if !self.leads() {
            return Err(RequestFailure::NotLeader);
        }
        let roster = self.roster();
        if !roster.is_raft_voter(target) {
            return Err(RequestFailure::UnknownMember(target));
        }
        if target == self.id() {
            return Ok(());
        }
        let _turn = limited(REQUEST_TIMEOUT, self.reconfiguring().lock()).await?;
        if !self.situation(&roster).active.contains(&target) {
            return Err(RequestFailure::Timeout);
        }
        self.hand_over(target).await?;
        let mut leaders = self.leaders();
        match limited(REQUEST_TIMEOUT, leaders.wait_for(|leader| *leader == Some(target))).await? {
            Ok(_) => Ok(()),
            Err(_) => Err(RequestFailure::Stopped),
        }
    }

    /// Makes another member lead, preferably `target`, and waits until this one does not.
    pub(crate) async fn hand_over(&self, target: MemberId) -> Result<(), RequestFailure> {
        tracing::info!(target = format!("{target:x}"), "handing over leadership");
        self.raft().trigger().transfer_leader(target).await.map_err(|_| RequestFailure::Stopped)?;
        let own = self.id();
        let mut leaders = self.leaders();
        match limited(REQUEST_TIMEOUT, leaders.wait_for(|leader| leader.is_some_and(|leader| leader != own))).await? {
            Ok(_) => Ok(()),
            Err(_) => Err(RequestFailure::Stopped),
        }
    }
}
