//! The store's server: etcd v3 over gRPC, its HTTP endpoints and its command line, on top of the replicated keyspace.

mod flags;
mod run;

pub use flags::{Flags, MAX_REQUEST_BYTES_DEFAULT, MAX_TXN_OPS_DEFAULT};
pub use run::{Error, run};
