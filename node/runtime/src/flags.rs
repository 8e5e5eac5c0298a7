//! The command line of `xebec node`, with upstream's kubelet flag names where upstream has the flag.

use std::{net::IpAddr, path::PathBuf};

use xebec_node_core::eviction::Thresholds;

/// Flags of the node agent.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// URL of a master, repeated or comma-separated; the agent balances over all of them.
    #[arg(long = "server", value_name = "URL", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Bootstrap token (`id.secret`) with which a new node asks for its certificates.
    #[arg(long, value_name = "TOKEN", env = "XEBEC_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// `sha256:<hex>` of the cluster CA's public key, by which a new node knows its masters.
    #[arg(long, value_name = "HASH")]
    pub ca_cert_hash: Option<String>,
    /// Kubeconfig to use as it is, in place of `--server`, `--token` and `--ca-cert-hash`.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the Node; the host name by default.
    #[arg(long, visible_alias = "hostname-override", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address under which others reach this node.
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Where certificates, volumes and pod logs live.
    #[arg(long, visible_alias = "root-dir", value_name = "DIR", default_value = "/var/lib/xebec/node")]
    pub data_dir: PathBuf,
    /// Directory in memory for secrets and memory-backed volumes; `/run/xebec/<node-name>`, or `/dev/shm/...` where
    /// `/run` is on disk, by default.
    #[arg(long, value_name = "DIR")]
    pub memory_dir: Option<PathBuf>,
    /// When the node counts as short of memory or disk; what is not named keeps the default.
    #[arg(long, value_name = "SIGNALS", default_value = "memory.available<100Mi,nodefs.available<10%")]
    pub eviction_hard: Thresholds,
    /// The container runtime's CRI v1 socket.
    #[arg(long, value_name = "URL", default_value = "unix:///run/containerd/containerd.sock")]
    pub container_runtime_endpoint: String,
    /// Directory of OCI archives to import into the runtime.
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
    /// Where the pod network's configuration is written.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the CNI plugins are installed.
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/cni")]
    pub cni_bin_dir: PathBuf,
    /// Path MTU of the pod network, in bytes; 0 takes the kernel's.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub network_plugin_mtu: u32,
    /// Addresses of the cluster's DNS service.
    #[arg(long, value_name = "IP", value_delimiter = ',', default_value = "10.96.0.10")]
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Addresses of all pods of the cluster.
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    pub cluster_cidr: ipnet::IpNet,
    /// Labels to register the Node with, `key=value`, comma-separated.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints to register the Node with, `key=value:effect`, comma-separated.
    #[arg(long, value_name = "TAINTS", value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Most pods this node runs.
    #[arg(long, value_name = "N", default_value_t = 110)]
    pub max_pods: u32,
    /// Capacity to report in place of what the machine has, such as `cpu=2,memory=4Gi`.
    #[arg(long, value_name = "RESOURCES", value_delimiter = ',')]
    pub capacity: Vec<String>,
    /// Resources kept from pods, such as `cpu=200m,memory=256Mi`.
    #[arg(long, value_name = "RESOURCES", value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// Seconds a heartbeat of this node stays good; it is renewed at a quarter of that.
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub node_lease_duration_seconds: u32,
    /// Run this many hollow nodes named `<node-name>-<i>`, whose pods only pretend to run.
    #[arg(long, value_name = "N")]
    pub hollow: Option<u32>,
    /// Image of the sandbox container; it must be the one of the runtime's own configuration, and is never collected.
    #[arg(long, value_name = "IMAGE", default_value = "xebec.local/pause:1")]
    pub pod_infra_container_image: String,
    /// Cgroup under which this node's pods run; `/xebec/<node-name>` by default.
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// Address the kubelet listens on.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub address: IpAddr,
    /// Port the kubelet listens on.
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub port: u16,
    /// Where the balancer over the masters listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6443")]
    pub balancer_listen: std::net::SocketAddr,
    /// Bytes after which a container's log is rotated.
    #[arg(long, value_name = "BYTES", default_value_t = 10 << 20)]
    pub container_log_max_bytes: u64,
    /// Rotated logs kept for a container, the current one among them.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    pub container_log_max_files: u32,
    /// Do not run the service proxy.
    #[arg(long)]
    pub disable_proxy: bool,
    /// Do not answer cluster DNS.
    #[arg(long)]
    pub disable_dns: bool,
}
