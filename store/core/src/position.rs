use std::fmt;

use serde::{Deserialize, Serialize};

/// A revision of the keyspace. An empty store is at revision 1; every command that changes keys advances it by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub i64);

impl Revision {
    /// What an empty store reports (etcd's `mvcc` starts at 1, so that 0 can mean "the present" in requests).
    pub const EMPTY: Revision = Revision(1);

    /// The compacted revision of a store that was never compacted: below 0, so that a compaction at 0 is still news, as
    /// in etcd (`mvcc.NewStore`).
    pub const NEVER_COMPACTED: Revision = Revision(-1);

    /// The revision after this one.
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// The revision before this one.
    pub const fn previous(self) -> Revision {
        Revision(self.0 - 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The name of a lease; 0 stands for "no lease".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease.
    pub const NONE: LeaseId = LeaseId(0);

    /// Whether this is [`LeaseId::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for LeaseId {
    /// Hexadecimal, as etcdctl prints it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

/// A place in the Raft log: what openraft calls a log id, without openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// The term of the leader that proposed the entry.
    pub term: u64,
    /// The leader's node id; 0 where the Raft binding does not keep it.
    pub node: u64,
    /// The index in the log.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}.{}", self.term, self.node, self.index)
    }
}

/// Milliseconds for which the cluster has had a working leader since it was made.
///
/// Lease deadlines are points on this line. It is not wall-clock time: it advances only as leaders advance it (see
/// [`crate::ClusterClock`]), every stamp is replicated inside a command, and a new leader continues from the last
/// stamp. Clocks that disagree or jump therefore cannot expire a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// This time plus `millis`.
    pub const fn plus_millis(self, millis: u64) -> ClusterTime {
        ClusterTime(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time, 0 if it is not earlier.
    pub const fn millis_since(self, earlier: ClusterTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
