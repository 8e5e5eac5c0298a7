//! What a fault takes, and whether it is there.

use nix::unistd::geteuid;

use super::{clock, limits};
use crate::{cluster::ClusterSpec, delay, shell, stores::Program};

/// What a fault needs to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Processes that were started by the run.
    Processes,
    /// Members with a network namespace each.
    Networks,
    /// Members whose data lie on a [`xebec_chaos_disk::Disk`] each.
    Disks,
    /// A wall clock of its own for each member.
    Clocks,
    /// Networks of their own, and a kernel that queues packets for us.
    Queues,
    /// Memory cgroups.
    Cgroups,
    /// Another build to upgrade to.
    Builds,
    /// Members that are stores and nothing else, with their data where the run put them.
    Store,
    /// Masters, whose scheduler and controllers elect leaders of their own.
    ControlPlane,
    /// Worker hosts, of which one can be lost.
    Nodes,
    /// Worker hosts that run containers.
    Containers,
}

impl Needs {
    /// What to do where it is not there.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Processes => "needs members that the run started: leave --endpoints away",
            Self::Networks => "needs a network for each member: run as root",
            Self::Disks => "needs a disk of its own for each member: /dev/fuse, and root or the Debian package fuse3",
            Self::Clocks => {
                "needs libfaketime (Debian package faketime), and members that read their clock through libc: an etcd does not"
            }
            Self::Queues => "needs root, iptables, and a kernel with nfnetlink_queue",
            Self::Cgroups => "needs root and cgroups that limit memory",
            Self::Builds => "needs another build: --upgrade-to",
            Self::Store => "needs a store that the run started: leave --endpoints, --hollow and --reference away",
            Self::Nodes => "needs worker hosts that the run started: --hollow or --reference, as root",
            Self::Containers => "needs worker hosts with containers: --reference",
            Self::ControlPlane => "needs a control plane that the run started: --hollow or --reference",
        }
    }
}

/// What is there, for a control plane that a run starts on this machine.
pub fn means_of_plane(spec: &ClusterSpec) -> Vec<Needs> {
    let mut means = vec![Needs::Processes, Needs::ControlPlane];
    if spec.has_hosts() {
        means.extend([Needs::Networks, Needs::Nodes]);
    }
    if spec.has_containers() {
        means.push(Needs::Containers);
    }
    means
}

/// What is there, for members of a store that a run starts on this machine.
pub fn means_here(program: &Program, has_upgrade: bool) -> Vec<Needs> {
    let root = geteuid().is_root();
    let mut means = vec![Needs::Processes, Needs::Store];
    if root {
        means.push(Needs::Networks);
    }
    let fuse = std::path::Path::new("/dev/fuse").exists();
    if fuse && (root || shell::succeeds("fusermount3", &["--version"])) {
        means.push(Needs::Disks);
    }
    if matches!(program, Program::Xebec(_)) && clock::library().is_some() {
        means.push(Needs::Clocks);
    }
    if root && delay::is_possible() {
        means.push(Needs::Queues);
    }
    if limits::can_limit_memory() {
        means.push(Needs::Cgroups);
    }
    if has_upgrade {
        means.push(Needs::Builds);
    }
    means
}
