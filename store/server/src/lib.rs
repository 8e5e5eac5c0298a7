//! The store's server: etcd v3 over gRPC, its HTTP endpoints and its command line, on top of the replicated keyspace.
//!
//! One file per service; `convert` turns messages into commands, `status` holds every error text clients match on,
//! `listen` the ports, `run` puts it together.

mod auth;
mod auth_records;
mod cluster;
mod concurrency;
mod context;
mod convert;
mod flags;
mod fragments;
mod http;
mod initial;
mod kv;
mod learner;
mod lease;
mod listen;
mod maintenance;
mod metrics;
mod operate;
mod run;
mod snapshot;
mod status;
mod watch;

pub use flags::{Flags, MAX_REQUEST_BYTES_DEFAULT, MAX_TXN_OPS_DEFAULT};
pub use initial::{DiscoveryFlags, MembershipFlags};
pub use operate::{OperateError, StoreCommand, command};
pub use run::{Error, run};
