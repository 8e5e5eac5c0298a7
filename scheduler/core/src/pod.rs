//! What the scheduler needs to know of a pod, worked out once.

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::resources::{Resources, pod_requests, scored_requests};
use crate::selector::{Labels, Selector};

/// The scheduler's name in `spec.schedulerName` if none is given.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// The name of the scheduler a pod asks for.
pub fn scheduler_name(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_SCHEDULER)
}

/// Whether the pod must not be scheduled yet (`spec.schedulingGates`, KEP-3521).
pub fn is_waiting_at_gate(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

/// A port of the host a pod occupies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    pub(crate) port: i32,
    pub(crate) address: String,
}

impl HostPort {
    /// Two occupy the same port if protocol and number agree and the addresses overlap (`HostPortInfo`).
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        let any = |port: &Self| port.address == "0.0.0.0";
        self.protocol == other.protocol
            && self.port == other.port
            && (any(self) || any(other) || self.address == other.address)
    }
}

/// An affinity term, its namespaces and selector resolved against the pod that has it.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) topology_key: String,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<Selector>,
    selector: Selector,
    pub(crate) weight: i64,
    /// Equal for terms that mean the same: terms are counted by it.
    pub(crate) identity: String,
}

impl Term {
    fn new(term: &PodAffinityTerm, namespace: &str, labels: &Labels, weight: i64) -> Self {
        let mut selector = Selector::from_labels(term.label_selector.as_ref());
        let keyed = |keys: &Option<Vec<String>>| -> Vec<(String, String)> {
            let keys = keys.iter().flatten();
            keys.filter_map(|key| labels.get(key).map(|value| (key.clone(), value.clone()))).collect()
        };
        let (same, other) = (keyed(&term.match_label_keys), keyed(&term.mismatch_label_keys));
        same.iter().for_each(|(key, value)| selector.require(key, value));
        other.iter().for_each(|(key, value)| selector.forbid(key, value));
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let namespace_selector = term.namespace_selector.as_ref().map(|selector| Selector::from_labels(Some(selector)));
        let identity = format!("{weight} {} {namespaces:?} {namespace_selector:?} {selector:?}", term.topology_key);
        Self { topology_key: term.topology_key.clone(), namespaces, namespace_selector, selector, weight, identity }
    }

    /// Whether the term speaks of a pod of this namespace (with these labels) and these labels.
    pub(crate) fn matches(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let namespace_fits = self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| selector.matches(namespace_labels));
        namespace_fits && self.selector.matches(labels)
    }
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.priority`, 0 if absent.
    pub priority: i32,
    /// Being deleted.
    pub terminating: bool,
    /// What it occupies.
    pub requests: Resources,
    /// CPU (thousandths) and memory (bytes) as scoring counts them.
    pub scored: (i64, i64),
    /// `spec.preemptionPolicy` is `Never`.
    pub never_preempts: bool,
    pub(crate) labels: Arc<Labels>,
    pub(crate) controller: bool,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) affinity: Vec<Arc<Term>>,
    pub(crate) anti_affinity: Vec<Arc<Term>>,
    /// Preferred terms; weights of anti-affinity are negative.
    pub(crate) preferred: Vec<Arc<Term>>,
    pub(crate) spec: Arc<PodSpec>,
}

impl PodInfo {
    /// Works out what matters.
    pub fn new(pod: &Pod) -> Self {
        let spec = Arc::new(pod.spec.clone().unwrap_or_default());
        let labels = Arc::new(pod.metadata.labels.clone().unwrap_or_default());
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let (affinity, anti_affinity, preferred) = terms(&spec, &namespace, &labels);
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            requests: pod_requests(&spec),
            scored: scored_requests(&spec),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            controller: pod.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true)),
            ports: ports(&spec),
            namespace,
            labels,
            affinity,
            anti_affinity,
            preferred,
            spec,
        }
    }
}

type Terms = Vec<Arc<Term>>;

fn terms(spec: &PodSpec, namespace: &str, labels: &Labels) -> (Terms, Terms, Terms) {
    let term = |term: &PodAffinityTerm, weight: i64| Arc::new(Term::new(term, namespace, labels, weight));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref());
    let anti = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let mut preferred = Vec::new();
    let wanted = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    for weighted in wanted.into_iter().flatten() {
        preferred.push(term(&weighted.pod_affinity_term, i64::from(weighted.weight)));
    }
    let unwanted = anti.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    for weighted in unwanted.into_iter().flatten() {
        preferred.push(term(&weighted.pod_affinity_term, -i64::from(weighted.weight)));
    }
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let forbidden = anti.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    (
        required.into_iter().flatten().map(|required| term(required, 1)).collect(),
        forbidden.into_iter().flatten().map(|forbidden| term(forbidden, 1)).collect(),
        preferred,
    )
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports: Vec<_> = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: number,
                address: address.unwrap_or_else(|| "0.0.0.0".to_owned()),
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}
