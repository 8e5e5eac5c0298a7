//! The reference cluster: which hosts there are, what runs on each, and how they come and go.
//!
//! Everything a cluster owns lies under its directory: `pki/`, `images/`, `kubeconfig`, `cluster.json` and a folder for
//! each host with its data and logs. Bringing a cluster up is a series of steps of which each looks first whether its
//! work is done, so that the same path serves the first start, a start after a crash, and a start after a reboot.

mod down;
mod kubeconfig;
mod leaders;
mod master;
pub(crate) mod network;
mod spec;
mod state;
mod up;
mod worker;

pub use down::{down, kill_worker_host};
pub use spec::{ClusterSpec, Host, Placement, Role};
pub use state::State;
pub use up::{create_token, join, start_host, up};
pub use worker::Worker;

use std::path::PathBuf;

use crate::{kubectl::Kubectl, process::Slot};

/// A cluster under its directory, running or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What it is made of.
    pub spec: ClusterSpec,
}

impl Cluster {
    /// The cluster that `spec` describes.
    pub fn new(spec: ClusterSpec) -> Self {
        Self { spec }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.spec.dir.join("kubeconfig")
    }

    /// kubectl as administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    /// The component process of a host: a master, or a node agent.
    pub fn component(&self, host: &Host) -> Slot {
        Slot::new(&host.dir, host.role.component())
    }

    /// The container runtime of a worker.
    pub fn runtime(&self, host: &Host) -> Slot {
        Slot::new(&host.dir, "containerd")
    }

    fn balancer(&self) -> Slot {
        Slot::new(&self.spec.dir, "balancer")
    }
}
