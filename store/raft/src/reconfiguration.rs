//! The rules of membership changes, pure (etcd `server/etcdserver/server.go` and `api/membership/cluster.go`).
//!
//! One difference from etcd: a member that is added as a voter is a learner to Raft until it runs and has caught up, and
//! is then made a voter by the leader. The cluster's quorum stays what it was until then, so that adding a member that
//! never starts costs nothing; in etcd it can cost the quorum (a second member of one that has a wrong URL).

use std::collections::{BTreeMap, BTreeSet};

use openraft::Membership;
use serde::{Deserialize, Serialize};

use crate::{
    roster::{MemberInfo, Roster},
    types::{MemberId, MemberNode},
};

/// A learner may be promoted when it has this share of the leader's log (etcd `readyPercentThreshold`).
const READY_PERCENT: u64 = 90;
/// Entries by which a voter-to-be may lag behind when it becomes a voter.
const VOTER_LAG_ENTRIES_MAX: u64 = 1_000;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// A new member.
    Add {
        /// Where its peers will reach it.
        peer_urls: Vec<String>,
        /// Whether it is not to vote.
        is_learner: bool,
    },
    /// A member leaves for good.
    Remove(MemberId),
    /// A member's peer URLs are others.
    Update {
        /// The member.
        id: MemberId,
        /// Where its peers reach it from now on.
        peer_urls: Vec<String>,
    },
    /// A learner becomes a voter.
    Promote(MemberId),
}

/// Why the cluster does not change, with etcd's words, which clients match (etcd `api/v3rpc/rpctypes/error.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MembershipRefusal {
    /// `ErrGRPCMemberExist`, FailedPrecondition.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// `ErrGRPCPeerURLExist`, FailedPrecondition.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// `ErrGRPCMemberNotEnoughStarted`, FailedPrecondition.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// `ErrGRPCMemberBadURLs`, InvalidArgument.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// `ErrGRPCMemberNotFound`, NotFound.
    #[error("etcdserver: member not found")]
    NotFound,
    /// `ErrGRPCMemberNotLearner`, FailedPrecondition.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// `ErrGRPCLearnerNotReady`, FailedPrecondition.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// `ErrGRPCTooManyLearners`, FailedPrecondition.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// `ErrGRPCUnhealthy`, Unavailable.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
}

/// What an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct ReconfigurationLimits {
    /// Refuse what would cost the quorum (etcd `--strict-reconfig-check`).
    pub is_strict: bool,
    /// Learners at a time (etcd `--max-learners`).
    pub learners_max: usize,
}

/// What the leader knows when it decides.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub roster: &'a Roster,
    pub leader: MemberId,
    /// Members that answered the leader lately, itself included.
    pub active: BTreeSet<MemberId>,
    /// How far each member's log matches the leader's.
    pub matched: BTreeMap<MemberId, u64>,
    pub last_index: u64,
    pub limits: ReconfigurationLimits,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Append this membership; it differs from the present one in one voter at most.
    Append(Membership<MemberId, MemberNode>),
    /// Give a member another description.
    SetNode(MemberId, MemberNode),
    /// The leader is to leave: let this member lead first, and ask it.
    HandOver(MemberId),
}

impl Situation<'_> {
    /// Decides a client's request; `fresh_id` is for a new member.
    pub fn plan(&self, change: &MembershipChange, fresh_id: MemberId) -> Result<(MemberId, Step), MembershipRefusal> {
        match change {
            MembershipChange::Add { peer_urls, is_learner } => {
                Ok((fresh_id, self.add(fresh_id, peer_urls, *is_learner)?))
            }
            MembershipChange::Remove(id) => Ok((*id, self.remove(*id)?)),
            MembershipChange::Update { id, peer_urls } => Ok((*id, self.update(*id, peer_urls)?)),
            MembershipChange::Promote(id) => Ok((*id, self.promote(*id)?)),
        }
    }

    /// A voter-to-be that runs and has caught up becomes a voter.
    pub fn settle(&self) -> Option<(MemberId, Step)> {
        let membership = self.roster.membership.membership();
        let ready = |id: &MemberId| {
            self.active.contains(id)
                && self.matched(*id) + VOTER_LAG_ENTRIES_MAX >= self.last_index
                && self.matched(*id) > 0
        };
        let waiting = membership
            .nodes()
            .find(|(id, node)| node.is_voter_to_be && !self.roster.is_raft_voter(**id) && ready(id))?;
        let id = *waiting.0;
        Some((id, self.with_voter(id)?))
    }

    /// The member to lead when the leader is to leave: of those that answer, the one with the longest log.
    pub fn successor(&self) -> Option<MemberId> {
        let able = |id: &MemberId| *id != self.leader && self.roster.is_raft_voter(*id) && self.active.contains(id);
        let voters = self.roster.membership.membership().voter_ids().filter(able);
        voters.max_by_key(|id| (self.matched(*id), *id))
    }

    fn matched(&self, id: MemberId) -> u64 {
        self.matched.get(&id).copied().unwrap_or(0)
    }

    fn voting(&self) -> impl Iterator<Item = &MemberInfo> {
        self.roster.members().iter().filter(|member| !member.is_learner)
    }

    fn add(&self, id: MemberId, peer_urls: &[String], is_learner: bool) -> Result<Step, MembershipRefusal> {
        if self.limits.is_strict {
            if !is_learner && !self.may_have_voter(0) {
                return Err(MembershipRefusal::NotEnoughStarted);
            }
            if !self.voting().all(|member| self.active.contains(&member.id)) {
                return Err(MembershipRefusal::Unhealthy);
            }
        }
        if self.roster.member(id).is_some() || self.roster.is_removed(id) {
            return Err(MembershipRefusal::MemberExists);
        }
        self.check_urls(id, peer_urls)?;
        let learners = self.roster.members().iter().filter(|member| member.is_learner).count();
        if is_learner && learners >= self.limits.learners_max {
            return Err(MembershipRefusal::TooManyLearners);
        }
        let peer_urls = sorted(peer_urls);
        let mut nodes = self.nodes();
        nodes.insert(id, MemberNode { name: String::new(), peer_urls, is_voter_to_be: !is_learner });
        self.membership(self.voters(), nodes)
    }

    /// Whether enough members have started for one more voter, of which `started` count as started
    /// (etcd `IsReadyToAddVotingMember`, `IsReadyToPromoteMember`).
    fn may_have_voter(&self, started: usize) -> bool {
        let members = self.voting().count() + 1;
        let started = self.voting().filter(|member| member.is_started()).count() + started;
        // A cluster of one may grow though the second has not started.
        (started == 1 && members == 2) || started > members / 2
    }

    fn remove(&self, id: MemberId) -> Result<Step, MembershipRefusal> {
        let member = self.roster.member(id).ok_or(MembershipRefusal::NotFound)?;
        if self.limits.is_strict && !member.is_learner {
            self.check_removal(id)?;
        }
        if id == self.leader {
            return self.successor().map(Step::HandOver).ok_or(MembershipRefusal::Unhealthy);
        }
        let (mut voters, mut nodes) = (self.voters(), self.nodes());
        voters.remove(&id);
        nodes.remove(&id);
        self.membership(voters, nodes)
    }

    /// etcd `IsReadyToRemoveVotingMember` and `mayRemoveMember`.
    fn check_removal(&self, id: MemberId) -> Result<(), MembershipRefusal> {
        let rest = self.voting().filter(|member| member.id != id).count();
        let started = self.voting().filter(|member| member.id != id && member.is_started()).count();
        if started < rest / 2 + 1 {
            return Err(MembershipRefusal::NotEnoughStarted);
        }
        if !self.active.contains(&id) {
            // It is down: the quorum does without it already.
            return Ok(());
        }
        let active = self.voting().filter(|member| self.active.contains(&member.id)).count();
        if active.saturating_sub(1) < 1 + self.voting().count().saturating_sub(1) / 2 {
            return Err(MembershipRefusal::Unhealthy);
        }
        Ok(())
    }

    fn update(&self, id: MemberId, peer_urls: &[String]) -> Result<Step, MembershipRefusal> {
        let node = self.roster.node(id).ok_or(MembershipRefusal::NotFound)?;
        self.check_urls(id, peer_urls)?;
        Ok(Step::SetNode(id, MemberNode { peer_urls: sorted(peer_urls), ..node.clone() }))
    }

    fn promote(&self, id: MemberId) -> Result<Step, MembershipRefusal> {
        let member = self.roster.member(id).ok_or(MembershipRefusal::NotFound)?;
        if !member.is_learner {
            return Err(MembershipRefusal::NotLearner);
        }
        // A learner that does not answer would cost the quorum as a voter, however much of the log it had.
        let is_ready = self.matched(id) > 0 && self.matched(id) * 100 >= self.last_index * READY_PERCENT;
        if !is_ready || !self.active.contains(&id) {
            return Err(MembershipRefusal::LearnerNotReady);
        }
        if self.limits.is_strict && !self.may_have_voter(1) {
            return Err(MembershipRefusal::NotEnoughStarted);
        }
        self.with_voter(id).ok_or(MembershipRefusal::Unhealthy)
    }

    fn check_urls(&self, id: MemberId, peer_urls: &[String]) -> Result<(), MembershipRefusal> {
        if !are_peer_urls(peer_urls) {
            return Err(MembershipRefusal::BadUrls);
        }
        let mut others = self.roster.members().iter().filter(|member| member.id != id);
        if others.any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
            return Err(MembershipRefusal::PeerUrlExists);
        }
        Ok(())
    }

    fn voters(&self) -> BTreeSet<MemberId> {
        self.roster.membership.membership().voter_ids().collect()
    }

    fn nodes(&self) -> BTreeMap<MemberId, MemberNode> {
        self.roster.membership.membership().nodes().map(|(id, node)| (*id, node.clone())).collect()
    }

    fn with_voter(&self, id: MemberId) -> Option<Step> {
        let mut voters = self.voters();
        voters.insert(id);
        self.membership(voters, self.nodes()).ok()
    }

    fn membership(
        &self,
        voters: BTreeSet<MemberId>,
        nodes: BTreeMap<MemberId, MemberNode>,
    ) -> Result<Step, MembershipRefusal> {
        // No voter may be left: the strict check refuses that before, where it is on.
        Membership::new(vec![voters], nodes).map(Step::Append).map_err(|_| MembershipRefusal::NotEnoughStarted)
    }
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

/// Whether these are peer URLs as etcd takes them: `http` or `https`, a host and a port, no path
/// (etcd `client/pkg/types/urls.go`).
#[must_use]
pub fn are_peer_urls(urls: &[String]) -> bool {
    let is_peer_url = |url: &String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else {
            return false;
        };
        let is_plain = |text: &str| !text.is_empty() && !text.contains(['/', '?', '#', '@', ' ']);
        is_plain(host) && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    !urls.is_empty() && urls.iter().all(is_peer_url)
}
