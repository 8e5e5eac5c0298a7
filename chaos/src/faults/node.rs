//! Worker hosts: what runs on them dies, or all of it at once.

use std::fmt;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng};

use super::{Deed, Scene};
use crate::{
    cluster::{self, Cluster},
    stores::Hosts,
};

/// The fault that takes a whole host; it lasts until it is missed.
pub const LOST_NODE: &str = "node-lost";

/// What of a worker host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The node agent; containers go on.
    Agent,
    /// The container runtime; containers go on.
    Runtime,
    /// Everything, as in a power cut.
    Host,
}

/// A worker host and what of it dies; undone by starting it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTrouble {
    /// Counted from 1, as in its name.
    number: u8,
    part: Part,
}

pub(super) fn agent(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, Part::Agent)
}

pub(super) fn runtime(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, Part::Runtime)
}

pub(super) fn host(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, Part::Host)
}

fn some(scene: Scene, rng: &mut StdRng, part: Part) -> Deed {
    Deed::Node(NodeTrouble { number: rng.random_range(1..=scene.workers.max(1)), part })
}

impl NodeTrouble {
    pub(super) async fn inject(&self, hosts: &Hosts) -> Result<()> {
        let (cluster, number, part) = (Cluster::new(hosts.spec.clone()), self.number, self.part);
        let work = move || {
            let host = cluster.spec.worker(number);
            match part {
                Part::Agent => cluster.component(&host).kill(),
                Part::Runtime => cluster.runtime(&host).kill(),
                Part::Host => cluster::kill_worker_host(&cluster, &host),
            }
        };
        tokio::task::spawn_blocking(work).await.context("killing a node panicked")?
    }

    pub(super) async fn heal(&self, hosts: &Hosts) -> Result<()> {
        let (cluster, number) = (Cluster::new(hosts.spec.clone()), self.number);
        let work = move || cluster::start_host(&cluster, &cluster.spec.worker(number));
        tokio::task::spawn_blocking(work).await.context("starting a node panicked")?
    }
}

impl fmt::Display for NodeTrouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Agent => "agent",
            Part::Runtime => "runtime",
            Part::Host => "host",
        };
        write!(out, "n{} {part}", self.number)
    }
}
