//! The Kubernetes API server's shell: HTTP, authentication, the store client, the watch cache, discovery and proxying.
//! What is decided without input or output is in `xebec-apiserver-core`.

// A refusal is a whole `Status`, which is what the client gets; failures are rare, and boxing would buy nothing.
#![allow(clippy::result_large_err)]

mod app;
mod authn;
mod authz;
mod cache;
mod error;
mod flags;
mod handlers;
mod http;
mod leadership;
mod masters;
mod nonresource;
mod objects;
mod proxy;
mod registry;
mod router;
mod server;
mod services;
mod store;
#[cfg(test)]
mod testing;
mod watch;

pub use error::Error;
pub use flags::Flags;
pub use server::{run, run_on};
