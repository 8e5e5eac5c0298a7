//! The controllers' decisions, in pure code.
//!
//! Every controller is a function `reconcile(&Observed) -> Vec<Action>`: what it sees of one key in the caches, and what
//! it wants done. The time is part of what it sees. The runtime carries the actions out, and a write's own event brings
//! the key back, so that one path serves normal running, retry and restart.

pub mod action;
pub mod claim;
pub mod cloud;
pub mod cluster_role;
pub mod csr;
pub mod daemonset;
pub mod deployment;
pub mod endpoint;
pub mod garbage;
pub mod job;
pub mod meta;
pub mod namespace;
pub mod node;
pub mod node_cidr;
pub mod pod_gc;
pub mod pods;
pub mod replicaset;
pub mod resource;
pub mod selector;
pub mod service_account;
pub mod set_revision;
pub mod statefulset;
pub mod token;

pub use action::{Action, DeleteOptions, Propagation, Target};
pub use resource::Resource;

/// Why the last attempt at a key failed, for the status to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Machine-readable, for example `FailedCreate`.
    pub reason: &'static str,
    /// The API server's message.
    pub message: String,
}
