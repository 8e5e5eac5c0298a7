//! Workloads: clients that ask a store for things and record what they are told. A new one is a file with a function
//! over a [`Client`], and a row in [`WORKLOADS`]; what its answers must look like is a checker in `chaos/core`.

mod append;
mod bank;
mod client;
mod compaction;
mod counter;
mod fenced;
mod lease;
mod register;
mod set;
mod watch;

use std::pin::Pin;

pub use client::{Client, REQUEST_TIMEOUT};

/// What a client does until it is stopped.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A kind of workload.
pub struct Workload {
    /// As in `--workload`.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// Clients at the same time.
    pub clients: u32,
    /// What each does.
    pub work: fn(Client) -> Work,
}

/// Every workload there is.
pub const WORKLOADS: [Workload; 10] = [
    Workload {
        name: "register",
        about: "reads, writes and compare-and-sets of registers",
        clients: 8,
        work: |client| Box::pin(register::run(client)),
    },
    Workload {
        name: "append",
        about: "transactions that append to lists and read them",
        clients: 5,
        work: |client| Box::pin(append::run(client)),
    },
    Workload { name: "set", about: "a set that only grows", clients: 3, work: |client| Box::pin(set::run(client)) },
    Workload {
        name: "counter",
        about: "increments by transaction",
        clients: 3,
        work: |client| Box::pin(counter::run(client)),
    },
    Workload {
        name: "bank",
        about: "transfers between accounts",
        clients: 4,
        work: |client| Box::pin(bank::run(client)),
    },
    Workload {
        name: "lock",
        about: "a lock with fencing tokens, whose holders stay too long",
        clients: 3,
        work: |client| Box::pin(fenced::lock(client)),
    },
    Workload {
        name: "election",
        about: "leaders that write until they are deposed, and a little longer",
        clients: 3,
        work: |client| Box::pin(fenced::election(client)),
    },
    Workload {
        name: "lease",
        about: "keys that live as long as their lease",
        clients: 3,
        work: |client| Box::pin(lease::run(client)),
    },
    Workload {
        name: "watch",
        about: "writers, and watchers of them at every member that resume",
        clients: 6,
        work: |client| Box::pin(watch::run(client)),
    },
    Workload {
        name: "compaction",
        about: "compacts the history behind everybody",
        clients: 1,
        work: |client| Box::pin(compaction::run(client)),
    },
];

/// The workload of a name.
pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}
