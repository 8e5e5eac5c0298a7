//! The CNI configuration of a node: `ptp` with `host-local` addresses out of the Node's podCIDR, `portmap` for host ports.

use ipnet::IpNet;
use serde_json::json;

/// Name of the network, and so of the directory in which `host-local` keeps its leases.
pub const NETWORK_NAME: &str = "xebec";
/// File name of the configuration; early in the alphabet, since runtimes take the first file.
pub const FILE_NAME: &str = "10-xebec.conflist";

/// The configuration list. Masquerading is left to the service proxy's rules: pods see each other's own addresses.
/// `leases_dir` is the host's own, since several hosts of a reference cluster share a file system.
pub fn conflist(pod_cidrs: &[IpNet], mtu: u32, leases_dir: &str) -> String {
    let ranges: Vec<_> = pod_cidrs.iter().map(|cidr| json!([{"subnet": cidr.to_string()}])).collect();
    let routes: Vec<_> = pod_cidrs
        .iter()
        .map(|cidr| match cidr {
            IpNet::V4(_) => json!({"dst": "0.0.0.0/0"}),
            IpNet::V6(_) => json!({"dst": "::/0"}),
        })
        .collect();
    let mut ptp = json!({
        "type": "ptp",
        "ipMasq": false,
        "ipam": {"type": "host-local", "dataDir": leases_dir, "ranges": ranges, "routes": routes},
    });
    if mtu > 0 {
        ptp["mtu"] = json!(mtu);
    }
    let list = json!({
        "cniVersion": "0.4.0",
        "name": NETWORK_NAME,
        "plugins": [ptp, {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}],
    });
    format!("{list:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_the_range_and_a_default_route() {
        let text = conflist(&["10.244.3.0/24".parse().unwrap()], 1400, "/l");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");
        assert_eq!(value["plugins"][0]["mtu"], 1400);
        assert_eq!(value["plugins"][1]["type"], "portmap");
    }
}
