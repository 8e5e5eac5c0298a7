//! The command line.

use std::path::PathBuf;

/// Command line of `xebec scheduler`, with the names of upstream's kube-scheduler.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Kubeconfig with the API server's address and the credentials of `system:kube-scheduler`.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Elect one leader among all instances before any pod is scheduled.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name under which this instance campaigns; the host's name and a unique identifier when absent.
    #[arg(long)]
    pub leader_elect_identity: Option<String>,
    /// Name of the leadership and of the Lease that mirrors it.
    #[arg(long, default_value = "kube-scheduler")]
    pub leader_elect_resource_name: String,
    /// The `spec.schedulerName` of the pods to schedule.
    #[arg(long, default_value = "default-scheduler")]
    pub scheduler_name: String,
    /// Address of `/healthz`, `/livez`, `/readyz` and `/metrics`, plain HTTP on the loopback by default.
    #[arg(long, default_value = "127.0.0.1:10259")]
    pub health_address: std::net::SocketAddr,
}
