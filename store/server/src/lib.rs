//! The store's server: etcd v3 over gRPC, its HTTP endpoints and its command line, on top of the replicated keyspace.
//!
//! One file per service; `convert` turns messages into commands, `status` holds every error text clients match on,
//! `listen` the ports, `run` puts it together.

mod access;
mod auth;
mod auth_records;
mod cluster;
mod concurrency;
mod context;
mod convert;
mod downgrade;
mod exposition;
mod flags;
mod fragments;
mod front;
pub mod fuzzing;
mod gateway;
mod health;
mod http;
mod in_process;
mod initial;
mod interceptor;
mod kv;
mod learner;
mod lease;
mod listen;
mod maintenance;
mod message_limit;
mod metrics;
mod operate;
mod process;
mod range_read;
mod response_budget;
mod run;
mod snapshot;
mod status;
mod tls;
mod upkeep;
mod version;
mod watch;

pub use flags::{
    ConnectionFlags, Elsewhere, Flags, HttpFlags, MAX_REQUEST_BYTES_DEFAULT, MAX_TXN_OPS_DEFAULT, TlsFlags, UpkeepFlags,
};
pub use in_process::client_services;
pub use initial::{DiscoveryFlags, MembershipFlags};
pub use operate::{OperateError, StoreCommand, command};
pub use response_budget::RESPONSE_BYTES_IN_FLIGHT_DEFAULT;
pub use run::{Error, run};
