//! What pods send to addresses outside of the pod network leaves under the node's address: nobody out there, masters
//! included, has a route to pods.

use ipnet::IpNet;

/// Name of the nftables table.
pub const TABLE: &str = "xebec-egress";

/// The table as one transaction that replaces whatever was there before.
pub fn ruleset(pod_cidrs: &[IpNet], cluster_cidr: IpNet) -> String {
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\nadd table inet {TABLE}\n");
    text += &format!("add chain inet {TABLE} postrouting {{ type nat hook postrouting priority srcnat; }}\n");
    for cidr in pod_cidrs {
        let family = match cidr {
            IpNet::V4(_) => "ip",
            IpNet::V6(_) => "ip6",
        };
        let inside = match (cidr, cluster_cidr) {
            (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)) => cluster_cidr,
            _ => *cidr,
        };
        text +=
            &format!("add rule inet {TABLE} postrouting {family} saddr {cidr} {family} daddr != {inside} masquerade\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_masqueraded_only_towards_the_outside() {
        let text = ruleset(&["10.244.1.0/24".parse().unwrap()], "10.244.0.0/16".parse().unwrap());
        let rule = "ip saddr 10.244.1.0/24 ip daddr != 10.244.0.0/16 masquerade";
        assert!(text.contains(rule) && text.starts_with("add table inet xebec-egress\ndelete table"), "{text}");
    }
}
