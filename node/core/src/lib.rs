//! What a node decides, without doing any of it: which containers a pod needs next, what its status is, what a probe's
//! result means, which bytes a volume holds, which rules a service needs.
//!
//! Nothing here reads a clock, a file or a socket: observations and the time come in as arguments, and printable
//! values come out. `xebec-node` acts on them.

pub mod actual;
pub mod backoff;
pub mod cni;
pub mod dns;
pub mod egress;
pub mod env;
pub mod eviction;
pub mod files;
pub mod labels;
pub mod plan;
pub mod pod;
pub mod probe;
pub mod proxy;
pub mod resolv;
pub mod resources;
pub mod routes;
pub mod status;
