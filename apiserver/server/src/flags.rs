//! The command line of `xebec apiserver`, with upstream's names.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Flags of the API server. Names and meanings are kube-apiserver's; authentication and authorization cannot be
/// switched off.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// Port of HTTPS with authentication and authorization; 0 takes a free one.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address under which members of the cluster reach this API server (default: the bind address).
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Store endpoints, separated by commas; requests fail over among them.
    #[arg(long, value_delimiter = ',', required = true)]
    pub etcd_servers: Vec<String>,
    /// Certificate authority of the store's serving certificates.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for the store.
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of the client certificate for the store.
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Prefix of all keys in the store.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Serving certificate (PEM, with intermediates).
    #[arg(long)]
    pub tls_cert_file: PathBuf,
    /// Key of the serving certificate.
    #[arg(long)]
    pub tls_private_key_file: PathBuf,
    /// Authority whose client certificates are accepted: CN is the user, O the groups.
    #[arg(long)]
    pub client_ca_file: PathBuf,
    /// Issuer of ServiceAccount tokens; the first one signs, all are accepted.
    #[arg(long, value_delimiter = ',', default_value = "https://kubernetes.default.svc.cluster.local")]
    pub service_account_issuer: Vec<String>,
    /// Keys (PEM, public or private) that verify ServiceAccount tokens; may be repeated.
    #[arg(long, required = true)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that signs ServiceAccount tokens.
    #[arg(long)]
    pub service_account_signing_key_file: PathBuf,
    /// Audiences of the API server (default: the first issuer).
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Longest lifetime of a ServiceAccount token, in seconds (0: no bound).
    #[arg(long, default_value_t = 0)]
    pub service_account_max_token_expiration_seconds: u64,
    /// Range of ClusterIPs.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: String,
    /// Range of node ports, inclusive.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Key of the client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Authority of the kubelets' serving certificates (default: the client CA).
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Reading requests served at once, beyond which 429 is answered (watches and upgrades do not count).
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Changing requests served at once, beyond which 429 is answered.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Lower bound of a watch's lifetime in seconds when the client names none; the upper is twice that.
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// Authenticate requests without credentials as system:anonymous (authorization still decides).
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub anonymous_auth: bool,
    /// Time for requests in flight to finish at shutdown, in seconds.
    #[arg(long, default_value_t = 5)]
    pub shutdown_grace_seconds: u64,
}
