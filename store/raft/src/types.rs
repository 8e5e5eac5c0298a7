//! openraft's types as this store fills them in.

use std::{fmt, sync::Arc};

use openraft::{impls::leader_id_std, raft::StreamAppendResult};
use serde::{Deserialize, Serialize};
use xebec_store_core::{Command, LogPosition, RequestError, Response};

/// A member's id.
pub type MemberId = u64;

/// What the membership says of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    /// Name, as in `--initial-cluster`.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Was added as a voter: while it is a learner to Raft, because it has not caught up yet, it is one only to Raft.
    pub is_voter_to_be: bool,
}

/// The commands of one log entry: all that were waiting when it was proposed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Arc<[Command]>);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// What came of one command.
pub type Outcome = Result<Response, RequestError>;

/// What came of a batch, one outcome per command; empty where nobody waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes(pub Vec<Outcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// The store's instantiation of openraft. One leader a term, as in etcd.
    pub TypeConfig:
        D = Batch,
        R = Outcomes,
        NodeId = MemberId,
        Node = MemberNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type AppendResult = StreamAppendResult<TypeConfig>;

/// openraft's log id as the keyspace stores it.
pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition { term: id.committed_leader_id().term, node: 0, index: id.index }
}

/// The reverse of [`position`].
pub(crate) fn log_id(position: &LogPosition) -> LogId {
    LogId { leader_id: position.term.into(), index: position.index }
}
