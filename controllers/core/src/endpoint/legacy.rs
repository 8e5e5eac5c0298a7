use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Port, addresses, hostname, is_endpoint, labels, ports, reference, selects_pods};
use crate::{action::Action, meta, pods, selector};

/// Addresses in one Endpoints object; the rest is in EndpointSlices only (upstream's `maxCapacity`).
const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// What is seen of one Service.
#[derive(Debug)]
pub struct Observed {
    /// The Service.
    pub service: Arc<Service>,
    /// Pods of its namespace that its selector may select.
    pub pods: Vec<Arc<Pod>>,
    /// Its Endpoints.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// One Endpoints object of the Service's name.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let service = &*observed.service;
    let Some(spec) = service.spec.as_ref().filter(|spec| selects_pods(spec)) else {
        return Vec::new();
    };
    if meta::is_deleting(service) {
        return Vec::new();
    }
    let published = spec.publish_not_ready_addresses == Some(true);
    let wanted = spec.selector.clone().unwrap_or_default();
    let family_is_v6 = spec.ip_families.iter().flatten().next().is_some_and(|f| f == "IPv6");
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let mut chosen: Vec<&Arc<Pod>> = observed
        .pods
        .iter()
        .filter(|pod| selector::contains(&wanted, pod.metadata.labels.as_ref()))
        .filter(|pod| is_endpoint(pod, published))
        .collect();
    // Ready ones first, so that truncation spares them.
    chosen.sort_by_key(|pod| (!pods::is_ready(pod), meta::name(&***pod).to_owned()));
    let over_capacity = chosen.len() > ADDRESSES_MAX;
    for pod in chosen.into_iter().take(ADDRESSES_MAX) {
        let Some(ip) = addresses(pod).into_iter().find(|ip| ip.is_ipv6() == family_is_v6) else {
            continue;
        };
        let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty());
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: hostname(service, pod),
            node_name: node.map(str::to_owned),
            target_ref: Some(reference(pod)),
        };
        let (ready, not_ready) = groups.entry(ports(spec, pod)).or_default();
        if published || pods::is_ready(pod) { ready.push(address) } else { not_ready.push(address) }
    }
    let subsets: Vec<EndpointSubset> = groups.into_iter().map(subset).collect();
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let labels = labels(service, spec, &[(MANAGED_BY, MANAGER)]);
    write(observed, subsets, labels, over_capacity)
}

fn write(
    observed: &Observed,
    subsets: Option<Vec<EndpointSubset>>,
    labels: BTreeMap<String, String>,
    over_capacity: bool,
) -> Vec<Action> {
    let service = &*observed.service;
    let mark = |annotations: &mut Option<BTreeMap<String, String>>| {
        if over_capacity {
            annotations.get_or_insert_default().insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        } else if let Some(annotations) = annotations {
            annotations.remove(OVER_CAPACITY);
        }
    };
    match &observed.endpoints {
        None => {
            let mut annotations = None;
            mark(&mut annotations);
            vec![Action::create(&Endpoints {
                metadata: ObjectMeta {
                    name: service.metadata.name.clone(),
                    namespace: service.metadata.namespace.clone(),
                    labels: Some(labels),
                    annotations,
                    ..ObjectMeta::default()
                },
                subsets,
            })]
        }
        Some(have) => {
            let mut copy = (**have).clone();
            copy.subsets = subsets;
            copy.metadata.labels = Some(labels);
            mark(&mut copy.metadata.annotations);
            if copy == **have { Vec::new() } else { vec![Action::update(&copy)] }
        }
    }
}

fn subset(
    (ports, (mut ready, mut not_ready)): (Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)),
) -> EndpointSubset {
    ready.sort_by(|a, b| a.ip.cmp(&b.ip));
    not_ready.sort_by(|a, b| a.ip.cmp(&b.ip));
    let port = |port: Port| EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    };
    EndpointSubset {
        addresses: Some(ready).filter(|list| !list.is_empty()),
        not_ready_addresses: Some(not_ready).filter(|list| !list.is_empty()),
        ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|list| !list.is_empty()),
    }
}
