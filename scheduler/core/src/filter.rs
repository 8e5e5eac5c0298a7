//! Filters that look at one node at a time.

use k8s_openapi::api::core::v1::{PodSpec, Taint, Toleration};
use std::fmt;

use crate::pod::PodInfo;
use crate::selector::term_accepts;
use crate::snapshot::NodeInfo;

/// The taint that goes with `spec.unschedulable`.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// Why a node is no place for a pod; its `Display` is upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `NodeUnschedulable`.
    Unschedulable,
    /// `NodeName`.
    OtherNodeRequested,
    /// `TaintToleration`: the first taint that is not tolerated.
    Tainted {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// `NodeAffinity`.
    NodeAffinity,
    /// `NodePorts`.
    PortTaken,
    /// `NodeResourcesFit`: what is short, in upstream's words.
    Resource(String),
    /// `PodTopologySpread`.
    Spread,
    /// `PodTopologySpread`, the node lacking the label.
    SpreadLabelMissing,
    /// `InterPodAffinity`: a required pod is not near.
    Affinity,
    /// `InterPodAffinity`: an unwanted pod is near.
    AntiAffinity,
    /// `InterPodAffinity`: a pod is near that does not want this one.
    ExistingAntiAffinity,
}

impl Reason {
    /// The plugin whose reason this is.
    pub fn plugin(&self) -> &'static str {
        match self {
            Self::Unschedulable => "NodeUnschedulable",
            Self::OtherNodeRequested => "NodeName",
            Self::Tainted { .. } => "TaintToleration",
            Self::NodeAffinity => "NodeAffinity",
            Self::PortTaken => "NodePorts",
            Self::Resource(_) => "NodeResourcesFit",
            Self::Spread | Self::SpreadLabelMissing => "PodTopologySpread",
            Self::Affinity | Self::AntiAffinity | Self::ExistingAntiAffinity => "InterPodAffinity",
        }
    }

    /// Whether evicting other pods could remove it (upstream `Unschedulable`, not `UnschedulableAndUnresolvable`).
    pub fn preemption_may_help(&self) -> bool {
        match self {
            Self::PortTaken | Self::Spread | Self::AntiAffinity | Self::ExistingAntiAffinity => true,
            Self::Resource(_) => true,
            Self::Unschedulable
            | Self::OtherNodeRequested
            | Self::Tainted { .. }
            | Self::NodeAffinity
            | Self::SpreadLabelMissing
            | Self::Affinity => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::OtherNodeRequested => f.write_str("node(s) didn't match the requested node name"),
            Self::Tainted { key, value } => write!(f, "node(s) had untolerated taint {{{key}: {value}}}"),
            Self::NodeAffinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::PortTaken => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::Resource(what) => f.write_str(what),
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::SpreadLabelMissing => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
            Self::Affinity => f.write_str("node(s) didn't match pod affinity rules"),
            Self::AntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::ExistingAntiAffinity => f.write_str("node(s) didn't satisfy existing pods anti-affinity rules"),
        }
    }
}

/// The reasons of the first filter that refuses the node, in upstream's order; empty if none does.
pub(crate) fn refusals(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let tolerations = pod.spec.tolerations.as_deref().unwrap_or_default();
    if node.unschedulable && !tolerates_unschedulable(tolerations) {
        return vec![Reason::Unschedulable];
    }
    if pod.spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && *name != *node.name) {
        return vec![Reason::OtherNodeRequested];
    }
    let repels = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) = node.taints.iter().filter(repels).find(|taint| !tolerated(taint, tolerations)) {
        return vec![Reason::Tainted { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default() }];
    }
    if !node_affinity_accepts(&pod.spec, node) {
        return vec![Reason::NodeAffinity];
    }
    let taken = |wanted: &crate::pod::HostPort| node.ports.keys().any(|port| port.conflicts(wanted));
    if pod.ports.iter().any(taken) {
        return vec![Reason::PortTaken];
    }
    let missing = node.allocatable.shortages(&node.used, &pod.requests);
    missing.into_iter().map(Reason::Resource).collect()
}

/// `spec.nodeSelector` and required node affinity together (`nodeaffinity.GetRequiredNodeAffinity`).
pub(crate) fn node_affinity_accepts(spec: &PodSpec, node: &NodeInfo) -> bool {
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key).is_some_and(|has| has == value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| term_accepts(term, &node.name, &node.labels))
        })
}

/// Whether no `NoSchedule` or `NoExecute` taint of the node repels the pod.
pub(crate) fn taints_tolerated(spec: &PodSpec, node: &NodeInfo) -> bool {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    node.taints.iter().filter(|taint| taint.effect != "PreferNoSchedule").all(|taint| tolerated(taint, tolerations))
}

fn tolerates_unschedulable(tolerations: &[Toleration]) -> bool {
    let taint = Taint { key: UNSCHEDULABLE_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    tolerated(&taint, tolerations)
}

/// `v1.Toleration.ToleratesTaint`, for any of the tolerations.
pub(crate) fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().filter(|operator| !operator.is_empty()).unwrap_or("Equal");
        let taint_value = taint.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && operator == "Exists"))
            && match operator {
                "Exists" => true,
                "Equal" => value == taint_value,
                _ => false,
            }
    })
}
