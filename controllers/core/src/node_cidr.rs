//! A range of pod addresses for every node.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::{action::Action, meta};

/// What is seen of all nodes. The nodes themselves are the state of the allocation, so that a new leader knows it.
#[derive(Debug)]
pub struct Observed {
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// The range of all pods.
    pub cluster: IpNet,
    /// A range never handed out, since Services use it.
    pub services: Option<IpNet>,
    /// Prefix length of a node's range.
    pub mask: u8,
}

/// Gives the lowest free range to every node without one, oldest node first.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let mut taken: Vec<IpNet> = observed
        .nodes
        .iter()
        .filter_map(|node| node.spec.as_ref())
        .flat_map(|spec| spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten()))
        .filter_map(|cidr| cidr.parse().ok())
        .collect::<BTreeSet<IpNet>>()
        .into_iter()
        .collect();
    taken.extend(observed.services);
    let mut without: Vec<_> = observed
        .nodes
        .iter()
        .filter(|node| !meta::is_deleting(&***node))
        .filter(|node| {
            let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_ref());
            cidr.is_none_or(String::is_empty)
        })
        .collect();
    without.sort_by_key(|node| (meta::created(&***node), meta::name(&***node).to_owned()));
    let Ok(mut ranges) = observed.cluster.subnets(observed.mask) else { return Vec::new() };
    let mut actions = Vec::new();
    for node in without {
        let free = ranges.by_ref().find(|range| !taken.iter().any(|used| overlap(range, used)));
        let Some(free) = free else {
            let message = format!("Node {} status is now: CIDRNotAvailable", meta::name(&**node));
            actions.push(Action::event(&**node, true, "CIDRNotAvailable", message));
            break;
        };
        let body = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "podCIDR": free.to_string(), "podCIDRs": [free.to_string()] },
        });
        actions.push(Action::patch(&**node, body));
    }
    actions
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        let body = json!({ "metadata": { "name": name }, "spec": { "podCIDR": cidr } });
        Arc::new(serde_json::from_value(body).unwrap())
    }

    fn ranges(nodes: Vec<Arc<Node>>, cluster: &str, services: Option<&str>) -> Vec<String> {
        let observed = Observed {
            nodes,
            cluster: cluster.parse().unwrap(),
            services: services.map(|s| s.parse().unwrap()),
            mask: 24,
        };
        let text = |action: Action| match action {
            Action::Patch { target, body, .. } => {
                format!("{} {}", target.name, body["spec"]["podCIDR"].as_str().unwrap())
            }
            other => other.to_string(),
        };
        reconcile(&observed).into_iter().map(text).collect()
    }

    #[test]
    fn gaps_are_filled_and_nothing_is_given_twice() {
        let nodes = vec![node("a", Some("10.1.1.0/24")), node("b", None), node("c", None)];
        assert_eq!(ranges(nodes, "10.1.0.0/16", None), ["b 10.1.0.0/24", "c 10.1.2.0/24"]);
    }

    #[test]
    fn service_addresses_and_exhaustion_are_respected() {
        let nodes = vec![node("b", None), node("c", None)];
        assert_eq!(
            ranges(nodes, "10.1.0.0/23", Some("10.1.0.0/25")),
            ["b 10.1.1.0/24", "event CIDRNotAvailable: Node c status is now: CIDRNotAvailable"]
        );
    }
}
