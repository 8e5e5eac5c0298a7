//! What a client can ask, and what it can be told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One request of a client. The name in the field `f` is its name in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Action {
    /// A linearizable read of a register; answers `value` (absent for a key that does not exist).
    Read {
        /// The register.
        key: String,
    },
    /// A blind write of a register.
    Write {
        /// The register.
        key: String,
        /// What it becomes.
        value: i64,
    },
    /// Removes a register's value.
    Delete {
        /// The register.
        key: String,
    },
    /// Compare-and-set; answers `swapped`, and where the comparison failed and the client read the register in the same
    /// transaction `value`, or `present` false if there was none.
    Cas {
        /// The register.
        key: String,
        /// What must be there; null for "no value".
        from: Option<i64>,
        /// What it becomes.
        to: i64,
    },
    /// A transaction over lists; answers `reads`, one item for each micro-operation.
    Txn {
        /// In order of execution.
        ops: Vec<MicroOperation>,
    },
    /// Adds an element to a set.
    Add {
        /// The set.
        set: String,
        /// Added at most once in a run.
        element: i64,
    },
    /// Reads a whole set; answers `elements`.
    ReadSet {
        /// The set.
        set: String,
    },
    /// Adds to a counter.
    Increment {
        /// The counter.
        counter: String,
        /// May be negative.
        by: i64,
    },
    /// Reads a counter; answers `value` (absent is 0).
    ReadCounter {
        /// The counter.
        counter: String,
    },
    /// Moves money between two accounts in one transaction.
    Transfer {
        /// Pays.
        from: String,
        /// Is paid.
        to: String,
        /// More than zero.
        amount: i64,
    },
    /// Reads all accounts at one revision; answers `balances`.
    ReadAccounts,
    /// Takes a lock; answers `token`, a fencing token.
    Acquire {
        /// The lock.
        lock: String,
    },
    /// Gives a lock back.
    Release {
        /// The lock.
        lock: String,
        /// As the acquisition answered.
        token: u64,
    },
    /// A write that must land only while the lock is held under this token; answers `revision`.
    Guarded {
        /// The lock.
        lock: String,
        /// As the acquisition answered.
        token: u64,
        /// Distinct for every write of a run.
        value: i64,
    },
    /// Makes a lease; answers `ttl_ms`, the time granted.
    Grant {
        /// Its id.
        lease: i64,
        /// Asked for, in milliseconds.
        ttl_ms: u64,
    },
    /// Renews a lease; answers `ttl_ms` (0 for a lease that is gone).
    KeepAlive {
        /// Its id.
        lease: i64,
    },
    /// Ends a lease and removes its keys.
    Revoke {
        /// Its id.
        lease: i64,
    },
    /// Writes a key that lives as long as a lease.
    Attach {
        /// Written once in a run.
        key: String,
        /// Its id.
        lease: i64,
    },
    /// A linearizable look whether an attached key is there; answers `present`.
    Look {
        /// The key.
        key: String,
    },
    /// Stands for election and waits; answers `token`, the creation revision of the winner's key.
    Campaign {
        /// The election.
        election: String,
    },
    /// A leader's write, bound to its leadership; answers `revision`.
    Proclaim {
        /// The election.
        election: String,
        /// As the campaign answered.
        token: u64,
        /// Distinct for every write of a run.
        value: i64,
    },
    /// Gives a leadership up.
    Resign {
        /// The election.
        election: String,
        /// As the campaign answered.
        token: u64,
    },
    /// Compacts the store's history.
    Compact {
        /// Up to here.
        revision: u64,
    },
    /// Creates a Kubernetes object; answers `revision` (its resourceVersion) and `uid`.
    Create {
        /// `resource/namespace/name`.
        object: String,
    },
    /// Replaces a Kubernetes object; answers `revision`.
    Update {
        /// `resource/namespace/name`.
        object: String,
        /// The resourceVersion it was based on, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        based_on: Option<u64>,
    },
    /// Deletes a Kubernetes object; answers `revision`.
    Remove {
        /// `resource/namespace/name`.
        object: String,
    },
    /// Takes an object's last finalizer away, so that a deletion that waits for it happens.
    LetGo {
        /// `resource/namespace/name`.
        object: String,
    },
    /// A consistent read of a Kubernetes object; answers `revision` (its resourceVersion), absent if the object is.
    Get {
        /// `resource/namespace/name`.
        object: String,
    },
    /// Waits until a control loop has done something for an object.
    Await {
        /// What: `created`, `scheduled`, `running`, `elsewhere`.
        task: String,
        /// `resource/namespace/name`.
        object: String,
    },
    /// A request to a Service's backends over the data path.
    Probe {
        /// `namespace/name`.
        service: String,
    },
    /// Binds a pod to a node.
    Bind {
        /// `namespace/name` and uid of the pod, `namespace/name/uid`.
        pod: String,
        /// The node.
        node: String,
    },
    /// An address or node port that a Service holds from its creation (`ok` of this) to its deletion.
    Claim {
        /// `ip/10.96.0.7` or `port/30080`.
        resource: String,
        /// `namespace/name/uid` of the Service.
        owner: String,
    },
    /// Ends a claim.
    Unclaim {
        /// `ip/10.96.0.7` or `port/30080`.
        resource: String,
        /// `namespace/name/uid` of the Service.
        owner: String,
    },
}

/// One step of a transaction over lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum MicroOperation {
    /// Appends a value to a list. A value is appended to a list at most once in a run.
    Append {
        /// The list.
        key: String,
        /// The value.
        value: i64,
    },
    /// Reads a whole list.
    Read {
        /// The list.
        key: String,
    },
}

impl MicroOperation {
    /// The list it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Append { key, .. } | Self::Read { key } => key,
        }
    }
}

/// What an `ok` line says; only the fields that the action names are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// A register's or counter's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<i64>,
    /// Whether a compare-and-set took place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swapped: Option<bool>,
    /// The store revision: of the write for a write, of the answer's header for a read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// A fencing token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Whether a key is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// The time to live granted, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// A Kubernetes object's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// A set's elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<Vec<i64>>,
    /// Every account's balance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balances: Option<BTreeMap<String, i64>>,
    /// For each micro-operation the list it read, null for an append.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Vec<Option<Vec<i64>>>>,
}

impl Action {
    /// Whether it changes nothing, so that its unknown outcome constrains nobody.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Read { .. } | Self::ReadSet { .. } | Self::ReadCounter { .. } | Self::ReadAccounts => true,
            Self::Look { .. } | Self::Get { .. } => true,
            Self::Txn { ops } => ops.iter().all(|op| matches!(op, MicroOperation::Read { .. })),
            _ => false,
        }
    }
}
