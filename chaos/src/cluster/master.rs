//! A master host: its certificates and its one process.

use anyhow::Result;
use xebec_pki::{ClusterAuthorities, MasterNames};

use super::{Cluster, Host};
use crate::process::Launch;

/// The reference cluster declares a silent node dead after this long; upstream's default is 40 s.
const NODE_MONITOR_GRACE_PERIOD: &str = "8s";

impl Cluster {
    pub(super) fn prepare_master(&self, authorities: &ClusterAuthorities, host: &Host) -> Result<()> {
        let names = MasterNames {
            host: host.name.clone(),
            addresses: vec![host.address.into(), std::net::Ipv4Addr::LOCALHOST.into()],
            api_addresses: self.spec.api_addresses(),
            cluster_domain: "cluster.local".into(),
        };
        authorities.write_master(&names, &host.dir.join("certs"))?;
        Ok(())
    }

    pub(super) fn start_master(&self, host: &Host) -> Result<bool> {
        self.component(host).start(&self.master_launch(host))
    }

    /// How a master is started.
    pub(crate) fn master_launch(&self, host: &Host) -> Launch {
        let members: Vec<_> =
            self.spec.masters().iter().map(|m| format!("{}={}", m.name, m.store_peer_url())).collect();
        let text = |s: &str| s.to_owned();
        let mut argv = vec![
            self.spec.binary.display().to_string(),
            text("master"),
            format!("--name={}", host.name),
            format!("--cert-dir={}", host.dir.join("certs").display()),
            format!("--data-dir={}", host.dir.join("data").display()),
            format!("--advertise-address={}", host.address),
            format!("--secure-port={}", host.ports[0]),
            format!("--store-client-port={}", host.ports[1]),
            format!("--store-peer-port={}", host.ports[2]),
            format!("--initial-cluster={}", members.join(",")),
            format!("--initial-cluster-token={}", self.spec.name),
            format!("--node-monitor-grace-period={NODE_MONITOR_GRACE_PERIOD}"),
        ];
        if !self.spec.has_hosts() {
            // Masters that share one address must not share the ports that are fixed elsewhere.
            argv.push(format!("--scheduler-health-address={}:{}", host.address, host.ports[0] + 3));
            argv.push(format!("--controllers-health-address={}:{}", host.address, host.ports[0] + 4));
        }
        Launch { argv, network_namespace: host.network_namespace.clone(), env: vec![] }
    }
}
