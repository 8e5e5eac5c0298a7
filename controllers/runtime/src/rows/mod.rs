//! The table of controllers. A row says which changes wake which keys and what is seen of a key; the decision is in the
//! core crate.

mod apps;
mod cloud;
mod cluster;
mod network;
mod nodes;
mod sets;

use crate::engine::Controller;

/// Waits for the caches a row reads.
macro_rules! synced {
    ($($kind:ident),+) => {
        |context| Box::pin(async move { $(context.world.$kind.synced().await;)+ })
    };
}
pub(crate) use synced;

/// Every controller there is.
pub(crate) const TABLE: &[&Controller] = &[
    &apps::REPLICA_SET,
    &apps::REPLICATION_CONTROLLER,
    &apps::DEPLOYMENT,
    &network::ENDPOINT,
    &network::ENDPOINT_SLICE,
    &nodes::LIFECYCLE,
    &nodes::EVICTION,
    &nodes::ADDRESS_RANGES,
    &nodes::POD_GC,
    &nodes::TERMINATED_PODS,
    &cluster::SERVICE_ACCOUNT,
    &cluster::TOKENS,
    &cluster::NAMESPACE,
    &cluster::GARBAGE,
    &cluster::CERTIFICATES,
    &cluster::AGGREGATION,
    &sets::DAEMON_SET,
    &sets::STATEFUL_SET,
    &sets::JOB,
    &cloud::NODES,
    &cloud::SERVICES,
];
