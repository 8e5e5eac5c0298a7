//! The Kubernetes API server's shell: HTTP, authentication, the store client, the watch cache, discovery and proxying.
//! What is decided without input or output is in `xebec-apiserver-core`.

mod cache;
mod error;
mod flags;
mod server;
mod store;

pub use error::Error;
pub use flags::Flags;
pub use server::run;
