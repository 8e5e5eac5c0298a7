//! The service proxy's rules: Services and EndpointSlices in, the text of one nftables table out.
//!
//! The semantics are kube-proxy's (`pkg/proxy/nftables`, KEP-3866): verdict maps from service addresses to chains,
//! random choice among endpoints, client affinity in sets with timeouts, rejection where there are no endpoints. The same
//! input always gives the same text, so an unchanged world costs no transaction.

mod endpoints;
mod ruleset;

pub use endpoints::{Endpoint, ServicePort, UdpTarget, stale_udp};
pub use ruleset::Ruleset;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::Ipv4Addr;

/// What the rules depend on besides Services and endpoints.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node the rules are for.
    pub node_name: String,
    /// Addresses of all pods: traffic to Services from anywhere else is masqueraded.
    pub cluster_cidr: Option<Ipv4Net>,
    /// Service addresses that this node answers itself (cluster DNS); no rule touches them.
    pub served_here: Vec<Ipv4Addr>,
}

/// The ports to balance, ordered by name.
pub fn service_ports<'a>(
    options: &Options,
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<ServicePort> {
    endpoints::service_ports(options, services, slices)
}

/// The table for these ports.
pub fn render(options: &Options, ports: &[ServicePort]) -> Ruleset {
    ruleset::render(options, ports)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
