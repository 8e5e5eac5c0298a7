//! The hosts that faults break: members of a store, masters of a cluster.

use super::Member;
use crate::cluster::ClusterSpec;

/// Hosts whose processes the run started. A fault knows them by index, and nothing of what they run.
#[derive(Debug)]
pub struct Hosts {
    pub(crate) spec: ClusterSpec,
    pub(crate) members: Vec<Member>,
}

impl Hosts {
    /// Hosts of a cluster.
    pub(crate) fn new(spec: ClusterSpec, members: Vec<Member>) -> Self {
        Self { spec, members }
    }

    /// A member by index.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether each member has a network of its own.
    pub fn has_hosts(&self) -> bool {
        self.spec.has_hosts()
    }
}
