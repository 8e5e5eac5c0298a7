//! Users, roles and tokens against real members: what etcd's clients see.
#![allow(clippy::unwrap_used, reason = "a test")]

mod certificates;
mod enforcement;
mod identity;
mod members;
#[path = "../processes/mod.rs"]
mod processes;
mod tokens;
