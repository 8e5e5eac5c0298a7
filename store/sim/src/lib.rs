//! Deterministic simulation of the store: whole clusters in one thread, from a seed.
//!
//! Members run the real code of `store/core`, `store/log`, `store/disk`, `store/raft` and `store/server`; clients speak
//! etcd's gRPC to them. Simulated are the network ([`network`]), the log's disk ([`disk`]), the clocks and the scheduling
//! ([`machine`]) and all randomness ([`entropy`]). [`faults`] breaks what it can, and [`checks`] holds what comes of it
//! against the store's promises. [`simulation::run`] runs one seed; a process runs one seed only, since some libraries
//! count what happened in their process.
//!
//! In the spirit of TigerBeetle's VOPR, of FoundationDB's simulation, and of madsim, whose idea the `getrandom` is.

pub mod checks;
pub mod client;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod history;
pub mod machine;
pub mod network;
pub mod operator;
pub mod simulation;
pub mod trace;
