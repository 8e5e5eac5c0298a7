use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::auth::{AuthCommand, Authorized};
use crate::{Alarm, ClusterTime, KeyRange, LeaseId, Revision, byte_string, nesting};

/// A change to the replicated state, as it stands in the Raft log. A log entry may carry several, in order.
///
/// The variant order is part of the log's format (bincode writes indexes): append, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes a range of keys.
    DeleteRange(DeleteRange),
    /// Compares, then runs one of two lists of operations.
    Txn(Txn),
    /// Makes revisions below `revision` unreadable.
    Compact {
        /// The lowest revision that stays readable.
        revision: Revision,
    },
    /// Makes a lease.
    LeaseGrant(LeaseGrant),
    /// Ends leases and deletes their keys, all at one revision.
    LeaseRevoke(LeaseRevoke),
    /// Replicates lease deadlines.
    LeaseCheckpoint(LeaseCheckpoint),
    /// Raises an alarm.
    AlarmActivate(Alarm),
    /// Clears an alarm.
    AlarmDeactivate(Alarm),
    /// Sets or, without a value, removes a small replicated fact about the cluster (its version, a member's client
    /// addresses). Records are outside the keyspace: they have no revision.
    SetClusterRecord {
        /// The name, `/`-separated by convention.
        name: String,
        /// The new value.
        #[serde(with = "byte_string::optional")]
        value: Option<Bytes>,
    },
    /// Changes users, roles or tokens.
    Auth(AuthCommand),
    /// Another command, with who asked for it.
    Authorized(Authorized),
}

impl Command {
    /// Fills in the leader's time, if this command carries one. Leaders do it when they propose.
    pub fn stamp(&mut self, time: ClusterTime) {
        match self {
            Command::LeaseGrant(grant) => grant.now = time,
            Command::Auth(command) => command.stamp(time),
            Command::Authorized(authorized) => authorized.command.stamp(time),
            _ => {}
        }
    }

    /// Whether [`Command::stamp`] would change anything.
    pub fn needs_stamp(&self) -> bool {
        match self {
            Command::LeaseGrant(_) => true,
            Command::Auth(command) => command.now().is_some(),
            Command::Authorized(authorized) => authorized.command.needs_stamp(),
            _ => false,
        }
    }
}

/// etcd `PutRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key, not empty.
    #[serde(with = "byte_string")]
    pub key: Bytes,
    /// The value.
    #[serde(with = "byte_string")]
    pub value: Bytes,
    /// The lease to hang the key on; none detaches it.
    pub lease: LeaseId,
    /// Answer with the version before.
    pub prev_kv: bool,
    /// Keep the value the key has.
    pub ignore_value: bool,
    /// Keep the lease the key has.
    pub ignore_lease: bool,
}

/// etcd `DeleteRangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with the versions that were deleted.
    pub prev_kv: bool,
}

/// etcd `RangeRequest.SortOrder`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    /// As the store has them; with a target other than the key, ascending after the limit was applied.
    #[default]
    None,
    /// Lowest first.
    Ascend,
    /// Highest first.
    Descend,
}

/// etcd `RangeRequest.SortTarget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    /// By key.
    #[default]
    Key,
    /// By version.
    Version,
    /// By creation revision.
    Create,
    /// By modification revision.
    Mod,
    /// By value.
    Value,
}

/// etcd `RangeRequest`, without what only the server decides (serializable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub range: KeyRange,
    /// The most key-values to answer with; 0 is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the present.
    pub revision: Revision,
    /// The order.
    pub sort_order: SortOrder,
    /// What the order is by.
    pub sort_target: SortTarget,
    /// Leave out values.
    pub keys_only: bool,
    /// Answer with the count only.
    pub count_only: bool,
    /// Leave out versions modified before this revision; 0 is no bound.
    pub min_mod_revision: Revision,
    /// Leave out versions modified after this revision; 0 is no bound.
    pub max_mod_revision: Revision,
    /// Leave out keys created before this revision; 0 is no bound.
    pub min_create_revision: Revision,
    /// Leave out keys created after this revision; 0 is no bound.
    pub max_create_revision: Revision,
}

impl Range {
    /// Reads `range` at the present, everything else at its default.
    pub fn new(range: KeyRange) -> Range {
        Range {
            range,
            limit: 0,
            revision: Revision(0),
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: Revision(0),
            max_mod_revision: Revision(0),
            min_create_revision: Revision(0),
            max_create_revision: Revision(0),
        }
    }
}

/// etcd `TxnRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `success` to run.
    pub compares: Vec<Compare>,
    /// Runs if all compares hold.
    pub success: Vec<Op>,
    /// Runs otherwise.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Whether neither branch can write, nested ones included: such a transaction needs no log entry
    /// (etcd `txn.IsTxnReadonly`).
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }

    /// Whether a branch, nested ones included, contains a put.
    pub fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Range(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.has_put(),
        })
    }
}

/// One operation of a transaction (etcd `RequestOp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A read; it sees what the transaction wrote before it.
    Range(Range),
    /// A put.
    Put(Put),
    /// A deletion.
    DeleteRange(DeleteRange),
    /// A transaction inside the transaction.
    Txn(#[serde(with = "nesting")] Txn),
}

/// How a compare relates the key's side (left) to the request's (right).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOperator {
    /// Left equals right.
    Equal,
    /// Left is greater than right.
    Greater,
    /// Left is less than right.
    Less,
    /// Left differs from right.
    NotEqual,
}

/// What a compare looks at, and the request's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The version; 0 for a missing key.
    Version(i64),
    /// The creation revision; 0 for a missing key.
    Create(Revision),
    /// The modification revision; 0 for a missing key.
    Mod(Revision),
    /// The value; of a missing key every comparison is false.
    Value(#[serde(with = "byte_string")] Bytes),
    /// The lease; none for a missing key.
    Lease(LeaseId),
}

/// A condition of a transaction (etcd `Compare`). Over a range it must hold for every key there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// The relation.
    pub operator: CompareOperator,
    /// What is compared.
    pub target: CompareTarget,
}

/// Makes a lease. The server has chosen the id and raised the TTL to its minimum before proposing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// The name, not none.
    pub id: LeaseId,
    /// How long it lives without a keep-alive.
    pub ttl_seconds: i64,
    /// The leader's time at the proposal.
    pub now: ClusterTime,
}

/// Ends leases; all keys of all of them are deleted at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevoke {
    /// Which leases. A client's request names one; expiries come in batches.
    pub ids: Vec<LeaseId>,
}

/// A lease and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseDeadline {
    /// Which lease.
    pub id: LeaseId,
    /// When it ends.
    pub deadline: ClusterTime,
}

/// Replicates what keep-alives have moved in the leader's memory, and the leader's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCheckpoint {
    /// The leader's time at the proposal.
    pub now: ClusterTime,
    /// New deadlines; leases that are gone meanwhile are passed over.
    pub deadlines: Vec<LeaseDeadline>,
}
