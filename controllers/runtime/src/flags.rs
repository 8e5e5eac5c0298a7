use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

/// Command line of `xebec controllers`, with the names of upstream's kube-controller-manager.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Kubeconfig with the API server's address and the credentials of `system:kube-controller-manager`.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Elect one leader among all instances before any controller starts.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name under which this instance campaigns; the host's name and a process identifier when absent.
    #[arg(long)]
    pub leader_elect_identity: Option<String>,
    /// Address range of all pods, of which every node gets its own part.
    #[arg(long)]
    pub cluster_cidr: Option<IpNet>,
    /// Address range of Services; never handed out to nodes.
    #[arg(long)]
    pub service_cluster_ip_range: Option<IpNet>,
    /// Give each Node a range of `--cluster-cidr`.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allocate_node_cidrs: bool,
    /// Prefix length of a node's IPv4 range.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size_ipv4: u8,
    /// Certificate authority published to every namespace as ConfigMap `kube-root-ca.crt`.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// Private key of ServiceAccount tokens; legacy token Secrets are filled only when it is given.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Certificate of the authority that signs CertificateSigningRequests.
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Private key of the authority that signs CertificateSigningRequests.
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Longest life of a signed certificate.
    #[arg(long, default_value = "8760h", value_parser = parse_duration)]
    pub cluster_signing_duration: Duration,
    /// A node whose Lease is older than this is counted as lost.
    #[arg(long, default_value = "40s", value_parser = parse_duration)]
    pub node_monitor_grace_period: Duration,
    /// Accepted for compatibility and unused: nodes are watched, with one timer each, never polled.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub node_monitor_period: Duration,
    /// Terminated pods kept before the oldest are removed.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// Workers of each controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_syncs: usize,
    /// Controllers to run: `*` for all, `name` to add, `-name` to leave out.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub controllers: Vec<String>,
    /// Cloud provider whose loops run here: `none`, or `bare` for machines of one's own.
    #[arg(long, default_value = "none")]
    pub cloud_provider: String,
    /// Addresses the `bare` provider gives to Services of type LoadBalancer.
    #[arg(long)]
    pub load_balancer_cidr: Option<IpNet>,
    /// Address of `/healthz`, `/livez`, `/readyz` and `/metrics`, plain HTTP on the loopback by default.
    #[arg(long, default_value = "127.0.0.1:10257")]
    pub health_address: std::net::SocketAddr,
}

/// Reads a duration as Go's command lines write it: `40s`, `1h30m`, `500ms`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration"))?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return Err(format!("{text:?} is no duration: units are h, m, s, ms")),
            };
        rest = after;
    }
    Duration::try_from_secs_f64(total).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("8").is_err() && parse_duration("soon").is_err());
    }
}
