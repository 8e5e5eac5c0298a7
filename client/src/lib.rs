//! What every API client of the cluster shares: connections that notice a dead master, caches fed by watches, work
//! queues, leadership with fenced writes, events, and the layer-4 balancer in front of the masters.
//!
//! The scheduler, the controllers and the node agent are built on this crate and on [`kube`]; they pass
//! authentication, authorization and admission like any other client.

pub mod balancer;
pub mod cache;
pub mod connect;
mod dial;
pub mod events;
pub mod failure;
pub mod fence;
pub mod health;
mod identity;
pub mod key;
pub mod leadership;
mod lease;
pub mod queue;
mod reflect;
mod socket;

pub use balancer::BalancerFlags;
pub use cache::Cache;
pub use connect::{ConnectError, ConnectOptions, Connection};
pub use events::{EventType, Recorder};
pub use fence::Fence;
pub use health::Health;
pub use key::ObjectKey;
pub use leadership::{Campaign, run_while_leading};
pub use queue::{Outcome, Queue};
