//! The hosts that faults break: members of a store, masters of a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Member;
use crate::cluster::ClusterSpec;

/// Hosts whose processes the run started. A fault knows them by index, and nothing of what they run.
#[derive(Debug)]
pub struct Hosts {
    pub(crate) spec: ClusterSpec,
    pub(crate) members: Vec<Member>,
    /// A host without a member, for one to join.
    pub(crate) spare: Option<Member>,
    /// The builds that members are moved between.
    pub(crate) programs: Vec<PathBuf>,
}

impl Hosts {
    /// Hosts of a cluster.
    pub(crate) fn new(spec: ClusterSpec, members: Vec<Member>) -> Self {
        Self { spec, members, spare: None, programs: Vec::new() }
    }

    /// A member by index.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The host without a member.
    ///
    /// # Errors
    /// There is none.
    pub fn spare(&self) -> Result<&Member> {
        self.spare.as_ref().context("there is no spare host")
    }

    /// The build that follows the one the first member runs.
    pub fn next_program(&self) -> Option<PathBuf> {
        let now = self.members.first()?.program();
        let at = self.programs.iter().position(|program| *program == now)?;
        self.programs.get((at + 1) % self.programs.len()).filter(|next| **next != now).cloned()
    }

    /// Prefix of everything these hosts have on the machine.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Whether each member has a network of its own.
    pub fn has_hosts(&self) -> bool {
        self.spec.has_hosts()
    }
}
