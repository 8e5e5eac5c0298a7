use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Port, addresses, hostname, is_endpoint, labels, ports, reference, selects_pods};
use crate::{action::Action, meta, pods, selector};

/// Label that names who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Our value of that label.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Label that names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Endpoints in one slice (upstream's `--max-endpoints-per-slice`).
pub(super) const ENDPOINTS_PER_SLICE_MAX: usize = 100;

/// What is seen of one Service.
#[derive(Debug)]
pub struct Observed {
    /// The Service.
    pub service: Arc<Service>,
    /// Pods of its namespace that its selector may select.
    pub pods: Vec<Arc<Pod>>,
    /// Its slices that are ours.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Nodes, by name, for their zones.
    pub nodes: BTreeMap<String, Arc<Node>>,
}

/// Slices of the same address family and ports are filled alike.
type Group = (&'static str, Vec<Port>);

/// Writes as few slices as the change needs: endpoints stay in the slice they are in, new ones fill the first slice
/// with room, and slices left empty go. A Service without endpoints keeps one empty slice, so that readers can tell
/// "none" from "not yet".
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let service = &*observed.service;
    let Some(spec) = service.spec.as_ref().filter(|spec| selects_pods(spec)) else {
        return Vec::new();
    };
    if meta::is_deleting(service) {
        return Vec::new();
    }
    let mut wanted = wanted(observed, spec);
    for family in families(spec) {
        if !wanted.keys().any(|(have, _)| *have == family) {
            wanted.insert((family, Vec::new()), BTreeMap::new());
        }
    }
    let labels = labels(service, spec, &[(MANAGED_BY, MANAGER), (SERVICE_NAME, meta::name(service))]);

    let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    let mut slices: Vec<_> = observed.slices.iter().filter(|slice| !meta::is_deleting(&***slice)).collect();
    slices.sort_by_key(|slice| meta::name(&***slice).to_owned());
    for ((family, ports), mut endpoints) in wanted {
        let (here, others) =
            slices.into_iter().partition(|slice| slice.address_type == family && ports_of(slice) == ports);
        slices = others;
        let here: Vec<&Arc<EndpointSlice>> = here;
        let mut kept: Vec<Vec<Endpoint>> = here
            .iter()
            .map(|slice| {
                let same = |old: &Endpoint| endpoints.remove(&identity(old));
                slice.endpoints.iter().filter_map(same).collect()
            })
            .collect();
        let mut new = endpoints.into_values();
        for list in &mut kept {
            let room = ENDPOINTS_PER_SLICE_MAX.saturating_sub(list.len());
            list.extend(new.by_ref().take(room));
        }
        let rest: Vec<Endpoint> = new.collect();
        let created_none = here.is_empty();
        let nothing = rest.is_empty() && kept.iter().all(Vec::is_empty);
        for (index, (slice, list)) in here.iter().zip(kept).enumerate() {
            if list.is_empty() && !(nothing && index == 0) {
                deletes.push(Action::delete(&***slice));
                continue;
            }
            if slice.endpoints != list || slice.metadata.labels.as_ref() != Some(&labels) {
                let mut copy = (***slice).clone();
                copy.endpoints = list;
                copy.metadata.labels = Some(labels.clone());
                updates.push(Action::update(&copy));
            }
        }
        let chunks: Vec<&[Endpoint]> =
            if nothing && created_none { vec![&[]] } else { rest.chunks(ENDPOINTS_PER_SLICE_MAX).collect() };
        for chunk in chunks {
            creates.push(Action::create(&make(service, family, &ports, chunk, &labels)));
        }
    }
    deletes.extend(slices.into_iter().map(|slice| Action::delete(&**slice)));
    // New places first, so that no reader sees fewer endpoints than there are.
    creates.into_iter().chain(updates).chain(deletes).collect()
}

fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let of_address = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let named: Vec<&'static str> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let address = spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok());
    vec![address.as_ref().map_or("IPv4", of_address)]
}

/// Every endpoint there should be, by group and by identity.
fn wanted(observed: &Observed, spec: &ServiceSpec) -> BTreeMap<Group, BTreeMap<(String, String), Endpoint>> {
    let mut groups: BTreeMap<Group, BTreeMap<_, _>> = BTreeMap::new();
    let wanted = spec.selector.clone().unwrap_or_default();
    let families = families(spec);
    for pod in &observed.pods {
        if !selector::contains(&wanted, pod.metadata.labels.as_ref()) || !is_endpoint(pod, true) {
            continue;
        }
        let ports = ports(spec, pod);
        for family in &families {
            let mine: Vec<String> = addresses(pod)
                .into_iter()
                .filter(|ip| ip.is_ipv4() == (*family == "IPv4"))
                .map(|ip| ip.to_string())
                .collect();
            if mine.is_empty() {
                continue;
            }
            let endpoint = endpoint(observed, spec, pod, mine);
            groups.entry((*family, ports.clone())).or_default().insert(identity(&endpoint), endpoint);
        }
    }
    groups
}

fn endpoint(observed: &Observed, spec: &ServiceSpec, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = meta::is_deleting(pod);
    let published = spec.publish_not_ready_addresses == Some(true);
    let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(published || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(&observed.service, pod),
        node_name: node.map(str::to_owned),
        target_ref: Some(reference(pod)),
        zone: node
            .and_then(|node| observed.nodes.get(node))
            .and_then(|node| meta::label(&**node, "topology.kubernetes.io/zone"))
            .map(str::to_owned),
        ..Endpoint::default()
    }
}

/// What makes an endpoint the same one as before: its pod and its address.
fn identity(endpoint: &Endpoint) -> (String, String) {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (uid.unwrap_or_default(), endpoint.addresses.first().cloned().unwrap_or_default())
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            number: port.port.unwrap_or(0),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

fn make(
    service: &Service,
    family: &str,
    ports: &[Port],
    endpoints: &[Endpoint],
    labels: &BTreeMap<String, String>,
) -> EndpointSlice {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.number),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(service))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![meta::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: endpoints.to_vec(),
        ports: Some(ports.iter().map(port).collect()),
    }
}
