//! Which endpoints each port of each Service has on this node.

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use super::Options;

/// Longest affinity of a client, in seconds (Service validation's bound).
const AFFINITY_SECONDS_MAX: u32 = 86_400;
/// Affinity if none is given, in seconds (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY_SECONDS: u32 = 10_800;
/// The label that ties a slice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label with which other proxies claim a Service.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// An address and port to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// One port of one Service, with the endpoints that traffic may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name/protocol/port name`: unique, and safe in names of nftables.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The port of the cluster address.
    pub port: u16,
    /// The cluster address.
    pub cluster_ip: Ipv4Addr,
    /// External addresses and those of load balancers.
    pub external_ips: BTreeSet<Ipv4Addr>,
    /// Addresses of load balancers, with `loadBalancerSourceRanges` to be respected.
    pub load_balancer_ips: BTreeSet<Ipv4Addr>,
    /// Who may use the load balancer's addresses; everyone if empty.
    pub source_ranges: Vec<Ipv4Net>,
    /// The port on every node, if any.
    pub node_port: Option<u16>,
    /// How long a client stays with its endpoint, in seconds, if it does.
    pub affinity_seconds: Option<u32>,
    /// Traffic from the cluster stays on the node.
    pub internal_local: bool,
    /// Traffic from outside stays on the node.
    pub external_local: bool,
    /// The endpoints of the whole cluster.
    pub cluster: BTreeSet<Endpoint>,
    /// The endpoints of this node.
    pub local: BTreeSet<Endpoint>,
    /// Whether there is any endpoint at all.
    pub any: bool,
}

impl ServicePort {
    /// Where traffic to the cluster address goes.
    pub fn internal_endpoints(&self) -> &BTreeSet<Endpoint> {
        if self.internal_local { &self.local } else { &self.cluster }
    }
}

/// Endpoints in the order of preference of KEP-1669: the ready ones; failing those, those that still serve while they
/// terminate.
#[derive(Default)]
struct Candidates {
    ready: BTreeSet<Endpoint>,
    draining: BTreeSet<Endpoint>,
    ready_here: BTreeSet<Endpoint>,
    draining_here: BTreeSet<Endpoint>,
}

impl Candidates {
    fn add(&mut self, endpoint: &ApiEndpoint, port: u16, node: &str) {
        let conditions = endpoint.conditions.as_ref();
        // Absent conditions mean ready, and serving means ready (discovery/v1 EndpointConditions).
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
        let here = endpoint.node_name.as_deref() == Some(node);
        // Upstream uses the first address only; they are fungible.
        let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else { return };
        let target = Endpoint { address, port };
        let (all, local) = match (ready, serving && terminating) {
            (true, _) => (&mut self.ready, &mut self.ready_here),
            (false, true) => (&mut self.draining, &mut self.draining_here),
            (false, false) => return,
        };
        all.insert(target);
        if here {
            local.insert(target);
        }
    }

    fn cluster(&self) -> &BTreeSet<Endpoint> {
        if self.ready.is_empty() { &self.draining } else { &self.ready }
    }

    fn local(&self) -> &BTreeSet<Endpoint> {
        if self.ready_here.is_empty() { &self.draining_here } else { &self.ready_here }
    }
}

pub(super) fn service_ports<'a>(
    options: &Options,
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<ServicePort> {
    let mut by_service: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        if let (Some(service), "IPv4") = (service, slice.address_type.as_str()) {
            by_service.entry((namespace, service)).or_default().push(slice);
        }
    }
    let mut ports: Vec<ServicePort> = services
        .into_iter()
        .flat_map(|service| {
            let key = (
                service.metadata.namespace.as_deref().unwrap_or_default(),
                service.metadata.name.as_deref().unwrap_or_default(),
            );
            let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
            ports_of(options, service, slices)
        })
        .collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports.dedup_by(|a, b| a.name == b.name);
    ports
}

fn ports_of(options: &Options, service: &Service, slices: &[&EndpointSlice]) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let elsewhere = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PROXY_LABEL));
    let external_name = spec.type_.as_deref() == Some("ExternalName");
    let families = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    // Headless Services have "None", which is no address.
    let cluster_ip = families.filter_map(|address| address.parse::<Ipv4Addr>().ok()).next();
    let Some(cluster_ip) = cluster_ip.filter(|ip| !options.served_here.contains(ip)) else { return Vec::new() };
    if elsewhere || external_name {
        return Vec::new();
    }
    let build = |port: &ApiPort| build(options, service, port, cluster_ip, slices);
    spec.ports.iter().flatten().filter_map(build).collect()
}

fn build(
    options: &Options,
    service: &Service,
    port: &ApiPort,
    cluster_ip: Ipv4Addr,
    slices: &[&EndpointSlice],
) -> Option<ServicePort> {
    let spec = service.spec.as_ref()?;
    let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => "tcp",
        "UDP" => "udp",
        "SCTP" => "sctp",
        _ => return None,
    };
    let port_name = port.name.as_deref().unwrap_or_default();
    let mut candidates = Candidates::default();
    for slice in slices {
        let matching = slice.ports.iter().flatten().find(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == port_name
                && candidate.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
        });
        if let Some(number) = matching.and_then(|found| found.port).and_then(|port| u16::try_from(port).ok()) {
            slice.endpoints.iter().for_each(|endpoint| candidates.add(endpoint, number, &options.node_name));
        }
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
        seconds.unwrap_or(AFFINITY_SECONDS).clamp(1, AFFINITY_SECONDS_MAX)
    });
    let parse = |addresses: &[String]| addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = ingress.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    // "Proxy" addresses belong to a balancer that sends to node ports itself (KEP-1860).
    let ingress = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let metadata = &service.metadata;
    let name = format!(
        "{}/{}/{protocol}/{port_name}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    Some(ServicePort {
        name: safe(&name),
        protocol,
        port: u16::try_from(port.port).ok()?,
        cluster_ip,
        external_ips: spec.external_ips.as_deref().map(parse).unwrap_or_default(),
        load_balancer_ips: ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect(),
        source_ranges: ranges.filter_map(|range| range.trim().parse().ok()).collect(),
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        affinity_seconds: affinity,
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        cluster: candidates.cluster().clone(),
        local: candidates.local().clone(),
        any: !candidates.cluster().is_empty(),
    })
}

/// Only characters that nftables takes in names; nothing else gets through validation anyway.
fn safe(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-._/".contains(*c)).collect()
}

/// Connection tracking that has to be forgotten: UDP flows towards this address and port (of any endpoint, or of the
/// given one).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UdpTarget {
    /// The service's address; `None` for a node port.
    pub address: Option<Ipv4Addr>,
    /// The service's port.
    pub port: u16,
    /// The endpoint that is gone; `None` if the service had none and now has some.
    pub endpoint: Option<Ipv4Addr>,
}

/// What UDP clients would otherwise keep sending to: endpoints that are gone, and the void before there were any
/// (`pkg/proxy/conntrack/cleanup.go`).
pub fn stale_udp(before: &[ServicePort], after: &[ServicePort]) -> BTreeSet<UdpTarget> {
    let now: BTreeMap<&str, &ServicePort> = after.iter().map(|port| (port.name.as_str(), port)).collect();
    let known: BTreeMap<&str, &ServicePort> = before.iter().map(|port| (port.name.as_str(), port)).collect();
    let mut stale = BTreeSet::new();
    let mut forget = |port: &ServicePort, endpoint: Option<Ipv4Addr>| {
        let addresses = std::iter::once(port.cluster_ip).chain(port.external_ips.iter().copied());
        for address in addresses.chain(port.load_balancer_ips.iter().copied()) {
            stale.insert(UdpTarget { address: Some(address), port: port.port, endpoint });
        }
        if let Some(node_port) = port.node_port {
            stale.insert(UdpTarget { address: None, port: node_port, endpoint });
        }
    };
    for port in before.iter().filter(|port| port.protocol == "udp") {
        let remaining = now.get(port.name.as_str()).map(|port| port.cluster.clone()).unwrap_or_default();
        port.cluster.difference(&remaining).for_each(|gone| forget(port, Some(gone.address)));
    }
    for port in after.iter().filter(|port| port.protocol == "udp" && port.any) {
        if known.get(port.name.as_str()).is_none_or(|before| !before.any) {
            forget(port, None);
        }
    }
    stale
}
