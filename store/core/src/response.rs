use serde::{Deserialize, Serialize};

use crate::{Alarm, KeyValue, LeaseId, Revision, nesting};

/// The answer to a command that succeeded. `revision` fields are what etcd puts into the response's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactResponse),
    /// To a lease grant.
    LeaseGrant(LeaseGrantResponse),
    /// To a lease revocation.
    LeaseRevoke(LeaseRevokeResponse),
    /// To a lease checkpoint.
    LeaseCheckpoint,
    /// To an alarm being raised or cleared.
    Alarm(AlarmResponse),
    /// To a cluster record being set.
    ClusterRecord,
    /// To a change of users, roles or tokens.
    Auth {
        /// The store's revision.
        revision: Revision,
    },
}

/// etcd `RangeResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResponse {
    /// The store's revision when it was read, also for a read in the past.
    pub revision: Revision,
    /// What was found.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left something out.
    pub more: bool,
    /// Keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// etcd `PutResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutResponse {
    /// The revision of the put.
    pub revision: Revision,
    /// The version before, if it was asked for.
    pub prev_kv: Option<KeyValue>,
}

/// etcd `DeleteRangeResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeResponse {
    /// The revision of the deletion; the current one if nothing was deleted.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: i64,
    /// What was deleted, if it was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// etcd `TxnResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResponse {
    /// The revision of the transaction; 0 in a nested transaction, whose header etcd leaves empty.
    pub revision: Revision,
    /// Whether all compares held.
    pub succeeded: bool,
    /// One answer per operation of the branch that ran.
    pub responses: Vec<OpResponse>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResponse {
    /// To a read.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a nested transaction.
    Txn(#[serde(with = "nesting")] TxnResponse),
}

/// etcd `CompactionResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactResponse {
    /// The store's revision.
    pub revision: Revision,
}

/// etcd `LeaseGrantResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrantResponse {
    /// The store's revision.
    pub revision: Revision,
    /// The lease.
    pub id: LeaseId,
    /// Its TTL.
    pub ttl_seconds: i64,
}

/// etcd `LeaseRevokeResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevokeResponse {
    /// The store's revision afterwards.
    pub revision: Revision,
    /// Which of the leases existed and are gone now.
    pub revoked: Vec<LeaseId>,
}

/// etcd `AlarmResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmResponse {
    /// The store's revision.
    pub revision: Revision,
    /// The alarm, if the command changed anything.
    pub alarms: Vec<Alarm>,
}
