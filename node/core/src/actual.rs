//! What the runtime says about one pod.

use jiff::Timestamp;

/// A sandbox as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's identifier.
    pub id: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// Whether its namespaces stand.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses; empty on the host's network, or before the network was set up.
    pub ips: Vec<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's identifier.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// The sandbox it was made in.
    pub sandbox_id: String,
    /// How often a container of this name was started before.
    pub restart_count: u32,
    /// See [`crate::labels::container_hash`]; empty if the runtime lost it.
    pub hash: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When its process ended.
    pub finished_at: Option<Timestamp>,
    /// The process's exit status, 128 + n for signal n.
    pub exit_code: i32,
    /// The runtime's word for the end: `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// The termination message, or the runtime's error.
    pub message: String,
    /// Image as the pod named it.
    pub image: String,
    /// The image's identity in the runtime.
    pub image_id: String,
}

/// All the runtime has of one pod. Invariant: both lists are sorted newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Its sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Its containers, newest first.
    pub containers: Vec<Container>,
}

impl Actual {
    /// Puts both lists in order.
    pub fn new(mut sandboxes: Vec<Sandbox>, mut containers: Vec<Container>) -> Self {
        sandboxes.sort_by(|a, b| (b.attempt, b.created_at, &b.id).cmp(&(a.attempt, a.created_at, &a.id)));
        containers.sort_by(|a, b| (b.restart_count, b.created_at, &b.id).cmp(&(a.restart_count, a.created_at, &a.id)));
        Self { sandboxes, containers }
    }

    /// The newest sandbox if it is the only one that stands.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        let ready = self.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
        self.sandboxes.first().filter(|sandbox| sandbox.ready && ready == 1)
    }

    /// The newest container of this name in any sandbox.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of this name in this sandbox.
    pub fn newest_in(&self, name: &str, sandbox_id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name && container.sandbox_id == sandbox_id)
    }

    /// The container before the newest of this name.
    pub fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|container| container.name == name).nth(1)
    }

    /// Containers whose process may be alive.
    pub fn alive(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| matches!(container.state, State::Running | State::Unknown))
    }

    /// Whether neither a process nor a namespace is left.
    pub fn is_stopped(&self) -> bool {
        self.alive().next().is_none() && self.sandboxes.iter().all(|sandbox| !sandbox.ready)
    }
}
