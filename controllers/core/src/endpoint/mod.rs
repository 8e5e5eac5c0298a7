//! Which pods stand behind a Service: EndpointSlices, and the older Endpoints.

mod legacy;
mod slice;

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};

pub use legacy::{Observed as LegacyObserved, reconcile as reconcile_legacy};
pub use slice::{MANAGED_BY, MANAGER, Observed, SERVICE_NAME, reconcile};

use crate::{meta, pods};

/// Label of everything derived from a headless Service.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port of a Service as one pod serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: String,
    number: i32,
    app_protocol: Option<String>,
}

/// Whether controllers derive this Service's endpoints from pods.
fn selects_pods(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// The Service's ports on this pod. A named target port that the pod does not have is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let mut ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match &port.target_port {
                None | Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
            };
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol,
                number,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // Restartable init containers serve too (KEP-753).
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|port| port.container_port)
}

/// Whether the pod has a place among endpoints at all.
fn is_endpoint(pod: &Pod, include_terminating: bool) -> bool {
    !pods::is_terminated(pod) && !addresses(pod).is_empty() && (include_terminating || !meta::is_deleting(pod))
}

/// The pod's addresses, valid ones only.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    if listed.is_empty() { status.pod_ip.as_ref().and_then(|ip| ip.parse().ok()).into_iter().collect() } else { listed }
}

fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain.as_deref() == Some(meta::name(service))).then(|| hostname.clone())
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The Service's labels as its endpoints carry them.
fn labels(service: &Service, spec: &ServiceSpec, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    for reserved in [MANAGED_BY, SERVICE_NAME, HEADLESS] {
        labels.remove(reserved);
    }
    labels.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    if is_headless(spec) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

#[cfg(test)]
mod tests;
