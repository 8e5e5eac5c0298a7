//! Snapshots, restore, hashes and the operator's commands, judged by etcd's own tools where they are installed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod etcd;
mod hash;
#[path = "../processes/mod.rs"]
mod processes;
mod restore;
mod snapshot;
mod upkeep;
mod workload;
