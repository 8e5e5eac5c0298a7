//! etcd's command line (etcd `server/embed/config.go`), as far as it means something here.

mod config_file;
mod connections;
mod duration;
mod elsewhere;
mod http;
mod tls;
mod upkeep;

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args};

pub(crate) use config_file::{check, from_words, parse as parse_config, read as read_config_file};
pub(crate) use connections::CONCURRENT_STREAMS_DEFAULT;
pub use connections::ConnectionFlags;
pub use elsewhere::Elsewhere;
pub use http::HttpFlags;
pub use tls::TlsFlags;
pub use upkeep::UpkeepFlags;

use crate::{
    auth::{BCRYPT_COST_DEFAULT, TOKEN_TTL_SECONDS_DEFAULT},
    initial::MembershipFlags,
    response_budget::RESPONSE_BYTES_IN_FLIGHT_DEFAULT,
};

/// Bytes a client's request may have (etcd `--max-request-bytes`).
pub const MAX_REQUEST_BYTES_DEFAULT: usize = 1536 * 1024;
/// Operations a transaction may have (etcd `--max-txn-ops`).
pub const MAX_TXN_OPS_DEFAULT: usize = xebec_store_core::validate::TXN_OPS_MAX_DEFAULT;

/// Flags of `xebec store`; names and meanings are etcd's.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Name of this member; must stand in --initial-cluster.
    #[arg(long, default_value = "default", env = "ETCD_NAME")]
    pub name: String,
    /// Directory of this member's data [default: ${name}.etcd].
    #[arg(long, env = "ETCD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// URLs to listen on for clients.
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2379", env = "ETCD_LISTEN_CLIENT_URLS")]
    pub listen_client_urls: Vec<String>,
    /// Client URLs told to the other members and to clients.
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2379", env = "ETCD_ADVERTISE_CLIENT_URLS")]
    pub advertise_client_urls: Vec<String>,
    /// URLs to listen on for other members.
    #[arg(long, value_delimiter = ',', default_value = "http://localhost:2380", env = "ETCD_LISTEN_PEER_URLS")]
    pub listen_peer_urls: Vec<String>,
    /// Peer URLs told to the other members.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "http://localhost:2380",
        env = "ETCD_INITIAL_ADVERTISE_PEER_URLS"
    )]
    pub initial_advertise_peer_urls: Vec<String>,
    /// The cluster's first members, name=URL, comma-separated [default: this member alone].
    #[arg(long, env = "ETCD_INITIAL_CLUSTER")]
    pub initial_cluster: Option<String>,
    /// `new` for the first members of a cluster, `existing` to join one.
    #[arg(long, default_value = "new", value_parser = ["new", "existing"], env = "ETCD_INITIAL_CLUSTER_STATE")]
    pub initial_cluster_state: String,
    /// Distinguishes clusters of equal members.
    #[arg(long, default_value = "etcd-cluster", env = "ETCD_INITIAL_CLUSTER_TOKEN")]
    pub initial_cluster_token: String,
    #[command(flatten)]
    pub membership: MembershipFlags,
    /// Milliseconds between a leader's heartbeats.
    #[arg(long, default_value_t = xebec_store_raft::HEARTBEAT_MILLIS_DEFAULT, env = "ETCD_HEARTBEAT_INTERVAL")]
    pub heartbeat_interval: u64,
    /// Milliseconds without a leader after which a member stands for election.
    #[arg(long, default_value_t = xebec_store_raft::ELECTION_MILLIS_DEFAULT, env = "ETCD_ELECTION_TIMEOUT")]
    pub election_timeout: u64,
    /// Bytes at which the NOSPACE alarm is raised; 0 for no limit but the disk (etcd: 2 GiB).
    #[arg(long, default_value_t = 0, env = "ETCD_QUOTA_BACKEND_BYTES")]
    pub quota_backend_bytes: i64,
    /// Bytes a client's request may have.
    #[arg(long, default_value_t = MAX_REQUEST_BYTES_DEFAULT, env = "ETCD_MAX_REQUEST_BYTES")]
    pub max_request_bytes: usize,
    /// Bytes of responses read, encoded or being sent at a time, over all requests together; a response counts twice
    /// while it is encoded. Who finds no room waits, and is then refused.
    #[arg(long, default_value_t = RESPONSE_BYTES_IN_FLIGHT_DEFAULT, env = "ETCD_MAX_RESPONSE_BYTES_IN_FLIGHT")]
    pub max_response_bytes_in_flight: usize,
    /// Operations a transaction may have.
    #[arg(long, default_value_t = MAX_TXN_OPS_DEFAULT, env = "ETCD_MAX_TXN_OPS")]
    pub max_txn_ops: usize,
    /// Time between progress notifications of a silent watch, as Go writes durations.
    #[arg(long, default_value = "10m", value_parser = duration::parse_or_seconds, env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL")]
    pub watch_progress_notify_interval: Duration,
    /// etcd's YAML file; if it is given, other flags and the environment do not count.
    #[arg(long, env = "ETCD_CONFIG_FILE")]
    pub config_file: Option<PathBuf>,
    /// Clients' connections.
    #[command(flatten)]
    pub connections: ConnectionFlags,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsFlags,
    /// Plain HTTP.
    #[command(flatten)]
    pub http: HttpFlags,
    /// Serving certificate for clients (PEM).
    #[arg(long, env = "ETCD_CERT_FILE")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ETCD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Refuse clients without a certificate.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", env = "ETCD_CLIENT_CERT_AUTH")]
    pub client_cert_auth: bool,
    /// Authorities of client certificates.
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificate for peers, serving and client (PEM).
    #[arg(long, env = "ETCD_PEER_CERT_FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ETCD_PEER_KEY_FILE")]
    pub peer_key_file: Option<PathBuf>,
    /// Refuse peers without a certificate.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", env = "ETCD_PEER_CLIENT_CERT_AUTH")]
    pub peer_client_cert_auth: bool,
    /// Authorities of peer certificates.
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// How clients are given tokens: `simple`, or `jwt,sign-method=M,pub-key=FILE,priv-key=FILE,ttl=10m`.
    #[arg(long, default_value = "simple", env = "ETCD_AUTH_TOKEN")]
    pub auth_token: String,
    /// Seconds for which a simple token lives without use.
    #[arg(long, default_value_t = TOKEN_TTL_SECONDS_DEFAULT, env = "ETCD_AUTH_TOKEN_TTL")]
    pub auth_token_ttl: u64,
    /// Cost of hashing passwords with bcrypt: 4 to 31, each twice the one before.
    #[arg(long, default_value_t = BCRYPT_COST_DEFAULT, env = "ETCD_BCRYPT_COST")]
    pub bcrypt_cost: u32,
    /// Compaction, and checks of the data.
    #[command(flatten)]
    pub upkeep: UpkeepFlags,
    /// Flags of etcd's without a meaning here. Last, so that whatever has one comes before.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

impl Flags {
    /// The data directory, named after the member if it is not given.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.etcd", self.name)))
    }
}
