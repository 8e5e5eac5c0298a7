//! The cloud's loops: nodes that a provider knows, and Services that a provider gives an address to.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, NodeAddress, Service};
use serde_json::json;

use crate::{action::Action, meta};

/// Taint of a node that waits for its provider.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Annotation with the addresses a kubelet was told.
const PROVIDED_ADDRESS: &str = "alpha.kubernetes.io/provided-node-ip";

/// What a provider says about a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// `<provider>://<id>`.
    pub provider_id: String,
    /// Addresses the provider knows and the kubelet does not.
    pub addresses: Vec<NodeAddress>,
}

/// A place machines run in.
pub trait Provider: Send + Sync {
    /// The machine behind a node; `None` when it does not exist there.
    fn instance(&self, node: &Node) -> Option<Instance>;
    /// The addresses load balancers may have; none where the provider has no load balancers.
    fn load_balancer_addresses(&self) -> Option<IpNet>;
}

/// Machines of one's own: every node exists, under its own name, with the address it was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare {
    /// Addresses for Services of type LoadBalancer, routed to the nodes by whoever runs the network.
    pub pool: Option<IpNet>,
}

impl Provider for Bare {
    fn instance(&self, node: &Node) -> Option<Instance> {
        let told = meta::annotation(node, PROVIDED_ADDRESS).into_iter().flat_map(|list| list.split(','));
        let address =
            |address: &str| NodeAddress { type_: "InternalIP".to_owned(), address: address.trim().to_owned() };
        Some(Instance { provider_id: format!("bare://{}", meta::name(node)), addresses: told.map(address).collect() })
    }

    fn load_balancer_addresses(&self) -> Option<IpNet> {
        self.pool
    }
}

/// Initializes a node that waits for its provider: identity and addresses first, then the taint comes off.
#[must_use]
pub fn reconcile_node(node: &Node, provider: &dyn Provider) -> Vec<Action> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    if meta::is_deleting(node) || !taints.iter().any(|taint| taint.key == UNINITIALIZED) {
        return Vec::new();
    }
    let Some(instance) = provider.instance(node) else { return Vec::new() };
    let mut actions = Vec::new();
    let have = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
    let missing: Vec<_> = instance.addresses.into_iter().filter(|a| !have.contains(a)).collect();
    if !missing.is_empty() {
        let all: Vec<_> = have.into_iter().chain(missing).collect();
        actions.push(Action::patch_status(node, json!({ "addresses": all })));
    }
    let kept: Vec<_> = taints.iter().filter(|taint| taint.key != UNINITIALIZED).collect();
    let mut spec = json!({ "taints": kept });
    if node.spec.as_ref().is_none_or(|spec| spec.provider_id.is_none()) {
        spec["providerID"] = json!(instance.provider_id);
    }
    actions.push(Action::patch(node, json!({ "spec": spec })));
    actions
}

/// Gives every Service of type LoadBalancer an address of the pool, and takes it from those that are none any more.
/// The Services are the state of the allocation, so that a new leader knows it.
#[must_use]
pub fn reconcile_services(services: &[Arc<Service>], provider: &dyn Provider) -> Vec<Action> {
    let Some(pool) = provider.load_balancer_addresses() else { return Vec::new() };
    let ours = |service: &Service| {
        let spec = service.spec.as_ref();
        spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none())
    };
    let addresses = |service: &Service| -> Vec<IpAddr> {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.into_iter().flat_map(|lb| lb.ingress.iter().flatten());
        ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
    };
    let mut taken: BTreeSet<IpAddr> = services.iter().filter(|s| ours(s)).flat_map(|s| addresses(s)).collect();
    let mut actions = Vec::new();
    for service in services.iter().filter(|service| !meta::is_deleting(&***service)) {
        let have = addresses(service);
        if !ours(service) {
            let managed = service.spec.as_ref().is_some_and(|s| s.load_balancer_class.is_none());
            if managed && have.iter().any(|address| pool.contains(address)) {
                actions.push(Action::patch_status(&**service, json!({ "loadBalancer": { "ingress": null } })));
            }
            continue;
        }
        if !have.is_empty() {
            continue;
        }
        let asked: Option<IpAddr> = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_ref()?.parse().ok());
        let free = match asked.filter(|address| pool.contains(address)) {
            Some(asked) => Some(asked).filter(|address| !taken.contains(address)),
            None => pool.hosts().find(|address| !taken.contains(address)),
        };
        let Some(free) = free else {
            let message = "Error syncing load balancer: no address of the pool is free".to_owned();
            actions.push(Action::event(&**service, true, "SyncLoadBalancerFailed", message));
            continue;
        };
        taken.insert(free);
        let ingress = LoadBalancerIngress {
            ip: Some(free.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        };
        let status = json!({ "loadBalancer": { "ingress": [ingress] } });
        actions.push(Action::patch_status(&**service, status));
        let message = "Ensured load balancer".to_owned();
        actions.push(Action::event(&**service, false, "EnsuredLoadBalancer", message));
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_node_is_initialized_once() {
        let node = |taints: serde_json::Value| -> Node {
            serde_json::from_value(json!({
                "metadata": { "name": "n1", "annotations": { PROVIDED_ADDRESS: "10.0.0.1" } },
                "spec": { "taints": taints },
            }))
            .unwrap()
        };
        let waiting = node(json!([{ "key": UNINITIALIZED, "effect": "NoSchedule" }]));
        let printed: Vec<_> = reconcile_node(&waiting, &Bare::default()).iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["patch nodes n1 status", "patch nodes n1"]);
        assert!(reconcile_node(&node(json!([])), &Bare::default()).is_empty());
    }

    #[test]
    fn load_balancers_get_different_addresses_of_the_pool() {
        let service = |name: &str, kind: &str, ip: Option<&str>| -> Arc<Service> {
            let ingress = ip.map(|ip| vec![json!({ "ip": ip })]);
            Arc::new(
                serde_json::from_value(json!({
                    "metadata": { "name": name, "namespace": "a" }, "spec": { "type": kind },
                    "status": { "loadBalancer": { "ingress": ingress } },
                }))
                .unwrap(),
            )
        };
        let services = [
            service("have", "LoadBalancer", Some("192.0.2.1")),
            service("want", "LoadBalancer", None),
            service("was", "ClusterIP", Some("192.0.2.2")),
            service("never", "ClusterIP", None),
        ];
        let bare = Bare { pool: Some("192.0.2.0/29".parse().unwrap()) };
        let given: Vec<_> = reconcile_services(&services, &bare)
            .into_iter()
            .filter_map(|action| match action {
                Action::Patch { target, body, .. } => {
                    let ip = body["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
                    Some(format!("{} {ip}", target.name))
                }
                _ => None,
            })
            .collect();
        assert_eq!(given, ["want \"192.0.2.2\"", "was null"]);
    }
}
