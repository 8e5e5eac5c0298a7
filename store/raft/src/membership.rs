//! Membership changes, asked of any member and made by the leader, one at a time.

use std::{sync::Arc, time::Duration};

use openraft::{
    ChangeMembers, EntryPayload,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, RaftError},
    raft::Precondition,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::Code;

use crate::{
    error::RequestFailure,
    identity::member_id,
    member::{Member, REQUEST_TIMEOUT},
    network::frame,
    proposer::{is_untouched, pause},
    reconfiguration::{MembershipChange, MembershipRefusal, Situation, Step},
    roster::{self, Roster},
    types::MemberId,
    wire,
};

/// How long a member that has not answered the leader still counts as up, in election timeouts.
const ACTIVE_ELECTION_TIMEOUTS: u32 = 3;
/// How often the leader looks whether a voter-to-be has caught up.
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before a change is tried again because the cluster was not ready for it (another change is under way).
const NOT_READY_PAUSE: Duration = Duration::from_millis(50);

/// The member that changed, or why none did.
pub type MembershipOutcome = Result<MemberId, MembershipRefusal>;

impl Member {
    /// The members as this member has applied them.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        self.machine().roster.borrow().clone()
    }

    /// Follows the roster.
    pub(crate) fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.machine().roster.subscribe()
    }

    /// Whether this member was added as a learner and not promoted yet: it serves serializable reads only.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.machine().roster.borrow().member(self.id()).is_some_and(|member| member.is_learner)
    }

    /// Changes the membership. When it returns, this member's roster shows the change, unless this member has removed
    /// itself: then it is sent nothing any more.
    ///
    /// # Errors
    /// The outer error says that the cluster did not answer, see [`RequestFailure`]; the inner one that it refused.
    pub async fn change_membership(&self, change: MembershipChange) -> Result<MembershipOutcome, RequestFailure> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut leaders = self.leaders();
        loop {
            let leader = *leaders.borrow_and_update();
            let answer = match leader {
                Some(leader) if leader == self.id() => self.change_membership_as_leader(&change).await,
                Some(leader) => self.change_membership_at(leader, &change, deadline).await,
                None => Err(RequestFailure::NotLeader),
            };
            match answer {
                Err(RequestFailure::NotLeader) if Instant::now() >= deadline => return Err(RequestFailure::NoLeader),
                Err(RequestFailure::NotLeader) => pause(&mut leaders, leader, deadline).await,
                Ok(Ok(id)) if change == MembershipChange::Remove(self.id()) => return Ok(Ok(id)),
                Ok(outcome) => {
                    self.linearizable().await?;
                    return Ok(outcome);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn change_membership_at(
        &self,
        leader: MemberId,
        change: &MembershipChange,
        deadline: Instant,
    ) -> Result<MembershipOutcome, RequestFailure> {
        let malformed = |error: wire::WireError| RequestFailure::Malformed(error.to_string());
        let request = frame(change).map_err(malformed)?;
        let Some(mut client) = self.leader_client(leader) else {
            return Err(RequestFailure::NotLeader);
        };
        match timeout_at(deadline, client.change_membership(request)).await {
            Err(_) => Err(RequestFailure::Timeout),
            Ok(Ok(response)) => wire::decode(&response.into_inner().body).map_err(malformed),
            Ok(Err(status)) if is_untouched(&status) => Err(RequestFailure::NotLeader),
            Ok(Err(status)) if status.code() == Code::DeadlineExceeded => Err(RequestFailure::Timeout),
            Ok(Err(_)) => Err(RequestFailure::LeaderChanged),
        }
    }

    /// Decides and makes a change. [`RequestFailure::NotLeader`] means that nothing happened.
    pub(crate) async fn change_membership_as_leader(
        &self,
        change: &MembershipChange,
    ) -> Result<MembershipOutcome, RequestFailure> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let _turn = self.reconfiguring().lock().await;
        loop {
            // Decided upon everything that was committed before, and made only if that is still the last word.
            self.confirm_leadership().await.map_err(|failure| match failure {
                RequestFailure::NoLeader => RequestFailure::NotLeader,
                failure => failure,
            })?;
            let roster = self.roster();
            let fresh_id = fresh_id(&roster, change);
            let plan = self.situation(&roster).plan(change, fresh_id);
            let (id, step) = match plan {
                Ok(plan) => plan,
                Err(refusal) => return Ok(Err(refusal)),
            };
            match self.take_step(&roster, step).await? {
                Taken::Done => return Ok(Ok(id)),
                Taken::NotReady if Instant::now() >= deadline => return Err(RequestFailure::Timeout),
                Taken::NotReady => tokio::time::sleep(NOT_READY_PAUSE).await,
            }
        }
    }

    async fn take_step(&self, roster: &Roster, step: Step) -> Result<Taken, RequestFailure> {
        let unchanged = [Precondition::LastMembershipLogId { last_membership_log_id: *roster.membership.log_id() }];
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        tracing::info!(?step, "changing the membership");
        let written = match step {
            Step::HandOver(target) => {
                self.hand_over(target).await?;
                return Err(RequestFailure::NotLeader);
            }
            Step::Append(membership) => {
                timeout_at(deadline, self.raft().append_membership(membership, EntryPayload::Blank, unchanged)).await
            }
            Step::SetNode(id, node) => {
                let nodes = ChangeMembers::SetNodes([(id, node)].into());
                timeout_at(deadline, self.raft().change_membership(nodes, true)).await
            }
        };
        match written {
            Err(_) => Err(RequestFailure::Timeout),
            Ok(Ok(_)) => Ok(Taken::Done),
            Ok(Err(RaftError::Fatal(_))) => Err(RequestFailure::Stopped),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(RequestFailure::NotLeader),
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => Err(RequestFailure::LeaderChanged),
            Ok(Err(RaftError::APIError(error))) => {
                // Refused before it was appended: an earlier change is not committed yet, or came in between.
                tracing::debug!(%error, "the membership cannot change yet");
                Ok(Taken::NotReady)
            }
        }
    }

    /// What this leader knows of the others.
    pub(crate) fn situation<'a>(&self, roster: &'a Roster) -> Situation<'a> {
        let active_within = self.election_timeout() * ACTIVE_ELECTION_TIMEOUTS;
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let answered = metrics.heartbeat.iter().flatten().filter_map(|(id, at)| {
            use openraft::Instant as _;
            (*at).filter(|at| at.into_inner().elapsed() < active_within).map(|_| *id)
        });
        let matched = metrics.replication.iter().flatten().map(|(id, at)| (*id, at.map_or(0, |at| at.index)));
        Situation {
            roster,
            leader: self.id(),
            active: answered.chain([self.id()]).collect(),
            matched: matched.collect(),
            last_index: metrics.last_log_index.unwrap_or(0),
            limits: self.limits(),
        }
    }

    /// While this member leads, makes voters of the voters-to-be that have caught up.
    pub(crate) async fn settle_voters(self) {
        let mut ticks = tokio::time::interval(SETTLE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let is_ready = |roster: &Roster| self.situation(roster).settle().is_some();
            if !self.leads() || !is_ready(&self.roster()) {
                continue;
            }
            let _turn = self.reconfiguring().lock().await;
            if self.confirm_leadership().await.is_err() {
                continue;
            }
            let roster = self.roster();
            let Some((id, step)) = self.situation(&roster).settle() else {
                continue;
            };
            match self.take_step(&roster, step).await {
                Ok(Taken::Done) => tracing::info!(member = format!("{id:x}"), "a new member votes from now on"),
                Ok(Taken::NotReady) => {}
                Err(error) => tracing::warn!(member = format!("{id:x}"), %error, "a new member does not vote yet"),
            }
        }
    }

    /// Publishes this member's name and client URLs, and which data directory it has, as often as it takes.
    pub async fn publish(&self, name: &str, client_urls: &[String]) {
        while !self.stopped().is_cancelled() {
            if let Err(error) = self.linearizable().await {
                tracing::debug!(%error, "cannot publish this member yet");
                continue;
            }
            let roster = self.roster();
            if roster.member(self.id()).is_none() {
                tokio::time::sleep(NOT_READY_PAUSE).await;
                continue;
            }
            let commands = self.known_incarnations(&roster).chain(roster::attributes_command(
                &roster,
                self.id(),
                name,
                client_urls,
            ));
            let commands: Vec<_> = commands.collect();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                if let Err(error) = self.propose(command).await {
                    tracing::debug!(%error, "cannot publish this member yet");
                }
            }
        }
    }
}

/// Whether a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Done,
    NotReady,
}

/// An id that no member has or had: of the URLs, and of chance where etcd takes the time.
fn fresh_id(roster: &Roster, change: &MembershipChange) -> MemberId {
    let MembershipChange::Add { peer_urls, .. } = change else {
        return 0;
    };
    use std::hash::{BuildHasher, RandomState};
    let mut salt = RandomState::new().hash_one(peer_urls);
    loop {
        let id = member_id(peer_urls, &salt.to_string());
        if roster.member(id).is_none() && !roster.is_removed(id) {
            return id;
        }
        salt = salt.wrapping_add(1);
    }
}
