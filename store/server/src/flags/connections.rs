//! Flags of clients' connections.

use std::time::Duration;

use clap::Args;

use super::duration;

/// Streams one HTTP/2 connection may have, unless told otherwise; a kube-apiserver keeps its watches on few connections.
pub const CONCURRENT_STREAMS_DEFAULT: u32 = 100_000;

/// What a client's connection may do, and when it counts as dead.
#[derive(Debug, Clone, Args)]
pub struct ConnectionFlags {
    /// Streams that each connection may have open.
    #[arg(long, default_value_t = CONCURRENT_STREAMS_DEFAULT, env = "ETCD_MAX_CONCURRENT_STREAMS")]
    pub max_concurrent_streams: u32,
    /// Silence after which a client is probed, as Go writes durations; 0s for never (etcd: 2h).
    #[arg(long, default_value = "10s", value_parser = duration::parse, env = "ETCD_GRPC_KEEPALIVE_INTERVAL")]
    pub grpc_keepalive_interval: Duration,
    /// How long a probed client may take to answer (etcd: 20s).
    #[arg(long, default_value = "10s", value_parser = duration::parse, env = "ETCD_GRPC_KEEPALIVE_TIMEOUT")]
    pub grpc_keepalive_timeout: Duration,
}
