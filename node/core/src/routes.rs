//! Routes to the other nodes' pods: each node's pod range through its internal address.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where to send, by range of destinations.
pub type Routes = BTreeMap<Ipv4Net, Ipv4Addr>;

/// One change of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the route, or change its gateway.
    Set(Ipv4Net, Ipv4Addr),
    /// Remove the route.
    Remove(Ipv4Net, Ipv4Addr),
}

/// The routes a node needs to reach the pods of all others. A node being NotReady keeps its route: its pods may live.
pub fn wanted<'a>(own_name: &str, nodes: impl IntoIterator<Item = &'a Node>) -> Routes {
    let mut routes = Routes::new();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(own_name) {
            continue;
        }
        let spec = node.spec.as_ref();
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let ranges = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten().chain(single);
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let Some(gateway) = internal.filter_map(|address| address.address.parse().ok()).next() else { continue };
        for range in ranges.filter_map(|range| range.parse::<Ipv4Net>().ok()) {
            routes.insert(range.trunc(), gateway);
        }
    }
    routes
}

/// The steps from `present` to `wanted`; removals first, so that a range that moved is never routed twice.
pub fn steps(present: &Routes, wanted: &Routes) -> Vec<Step> {
    let gone = present.iter().filter(|(range, _)| !wanted.contains_key(*range));
    let gone = gone.map(|(range, gateway)| Step::Remove(*range, *gateway));
    let changed = wanted.iter().filter(|(range, gateway)| present.get(*range) != Some(*gateway));
    gone.chain(changed.map(|(range, gateway)| Step::Set(*range, *gateway))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, range: &str, address: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
        .unwrap()
    }

    #[test]
    fn every_other_node_gets_a_route_and_the_gone_one_loses_it() {
        let nodes = [node("a", "10.244.0.0/24", "10.77.0.21"), node("b", "10.244.1.0/24", "10.77.0.22")];
        let wanted = wanted("a", &nodes);
        let (range, gateway) = ("10.244.1.0/24".parse().unwrap(), "10.77.0.22".parse().unwrap());
        assert_eq!(wanted, [(range, gateway)].into());
        assert_eq!(steps(&Routes::new(), &wanted), [Step::Set(range, gateway)]);
        assert_eq!(steps(&wanted, &wanted), []);
        assert_eq!(steps(&wanted, &Routes::new()), [Step::Remove(range, gateway)]);
    }
}
