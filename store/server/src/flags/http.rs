//! Flags of plain HTTP and of the gateway.

use clap::{ArgAction, Args};

/// Where and how plain HTTP is served beside gRPC.
#[derive(Debug, Clone, Args)]
pub struct HttpFlags {
    /// URLs for plain HTTP only. --listen-client-urls then serve gRPC only.
    #[arg(long, value_delimiter = ',', env = "ETCD_LISTEN_CLIENT_HTTP_URLS")]
    pub listen_client_http_urls: Vec<String>,
    /// Further URLs for metrics and health only.
    #[arg(long, value_delimiter = ',', env = "ETCD_LISTEN_METRICS_URLS")]
    pub listen_metrics_urls: Vec<String>,
    /// Serve JSON under /v3/.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", env = "ETCD_ENABLE_GRPC_GATEWAY")]
    pub enable_grpc_gateway: bool,
    /// Origins of web pages that may use plain HTTP; * for all.
    #[arg(long, value_delimiter = ',', default_value = "*", env = "ETCD_CORS")]
    pub cors: Vec<String>,
    /// Names in the Host header that plain HTTP without TLS accepts; * for all.
    #[arg(long, value_delimiter = ',', default_value = "*", env = "ETCD_HOST_WHITELIST")]
    pub host_whitelist: Vec<String>,
    /// `extensive` adds how long gRPC calls take to the metrics.
    #[arg(long, default_value = "basic", value_parser = ["basic", "extensive"], env = "ETCD_METRICS")]
    pub metrics: String,
}
