//! The node agent: a kubelet that runs pods through CRI v1, the service proxy, cluster DNS, and a hollow runtime whose
//! pods only pretend.
//!
//! [`run`] is the component's entry, [`Flags`] its command line. The agent is fail-static: neither its own end nor the
//! loss of every master touches a running container.

mod agent;
mod bootstrap;
pub mod cri;
pub mod dns;
mod egress;
mod flags;
pub mod hollow;
pub mod kubelet;
mod machine;
mod node_object;
pub mod objects;
pub mod proxy;
pub mod routes;
mod run;
pub mod runtime;
mod server;
pub mod volumes;

pub use bootstrap::BootstrapError;
pub use flags::Flags;
pub use run::{Error, run};
