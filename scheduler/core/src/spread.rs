//! Topology spread constraints, hard and soft, and the default spreading of pods that belong together
//! (`podtopologyspread` of upstream, defaults of KEP-1258).

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use std::collections::HashMap;
use std::sync::Arc;

use crate::filter::{Reason, node_affinity_accepts, taints_tolerated};
use crate::pod::PodInfo;
use crate::selector::{Labels, Selector};
use crate::snapshot::{Alike, NodeInfo, Snapshot};

/// Label of a node's host name.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Labels that tell apart pods of one workload; they are no part of what makes pods belong together.
const INDIVIDUAL_LABELS: [&str; 4] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "controller-revision-hash",
];

struct Constraint {
    topology_key: String,
    max_skew: i64,
    min_domains: Option<usize>,
    selector: Selector,
    honor_affinity: bool,
    honor_taints: bool,
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = Selector::from_labels(constraint.label_selector.as_ref());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.require(key, value);
            }
        }
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.and_then(|domains| usize::try_from(domains).ok()),
            selector,
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn counts_on(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        (!self.honor_affinity || node_affinity_accepts(&pod.spec, node))
            && (!self.honor_taints || taints_tolerated(&pod.spec, node))
    }
}

fn constraints(pod: &PodInfo, when: &str) -> Vec<Constraint> {
    let all = pod.spec.topology_spread_constraints.iter().flatten();
    all.filter(|constraint| constraint.when_unsatisfiable == when)
        .map(|constraint| Constraint::new(constraint, &pod.labels))
        .collect()
}

/// Matching pods per node: visits label sets of the pod's namespace, not pods. Pods being deleted do not count.
fn matching(snapshot: &Snapshot, namespace: &str, selector: &Selector) -> HashMap<Arc<str>, i64> {
    let first = Alike { namespace: namespace.to_owned(), terminating: false, labels: Arc::default() };
    let mut counts = HashMap::new();
    let of_namespace = snapshot.alike.range(first..).take_while(|(alike, _)| alike.namespace == namespace);
    for (alike, placement) in of_namespace {
        if !alike.terminating && selector.matches(&alike.labels) {
            for (node, count) in placement {
                *counts.entry(node.clone()).or_insert(0) += i64::from(*count);
            }
        }
    }
    counts
}

/// Hard constraints, with the pods per domain counted once for all nodes.
pub(crate) struct HardSpread {
    keys: Vec<String>,
    constraints: Vec<Counted>,
}

struct Counted {
    constraint: Constraint,
    domains: HashMap<String, i64>,
    fewest: i64,
    this_pod: i64,
}

impl HardSpread {
    pub(crate) fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        let constraints = constraints(pod, "DoNotSchedule");
        let keys: Vec<_> = constraints.iter().map(|constraint| constraint.topology_key.clone()).collect();
        let counted = constraints.into_iter().map(|constraint| count(snapshot, pod, &keys, constraint)).collect();
        Self { keys, constraints: counted }
    }

    pub(crate) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        if self.keys.iter().any(|key| !node.labels.contains_key(key)) {
            return Some(Reason::SpreadLabelMissing);
        }
        let too_skewed = |counted: &Counted| {
            let domain = node.labels.get(&counted.constraint.topology_key);
            let present = domain.and_then(|domain| counted.domains.get(domain)).copied().unwrap_or(0);
            present + counted.this_pod - counted.fewest > counted.constraint.max_skew
        };
        self.constraints.iter().any(too_skewed).then_some(Reason::Spread)
    }
}

fn count(snapshot: &Snapshot, pod: &PodInfo, keys: &[String], constraint: Constraint) -> Counted {
    let pods = matching(snapshot, &pod.namespace, &constraint.selector);
    let mut domains = HashMap::new();
    for node in snapshot.nodes() {
        let labelled = keys.iter().all(|key| node.labels.contains_key(key));
        if let Some(domain) = node.labels.get(&constraint.topology_key)
            && labelled
            && constraint.counts_on(pod, node)
        {
            *domains.entry(domain.clone()).or_insert(0) += pods.get(&node.name).copied().unwrap_or(0);
        }
    }
    // Too few domains count as an empty one (KEP-3022).
    let too_few = constraint.min_domains.is_some_and(|min| domains.len() < min);
    let fewest = if too_few { 0 } else { domains.values().copied().min().unwrap_or(0) };
    let this_pod = i64::from(constraint.selector.matches(&pod.labels));
    Counted { constraint, domains, fewest, this_pod }
}

/// The raw cost of each node under the soft constraints (the more alike pods near, the higher); `None` for nodes that
/// lack a label the pod's own constraints name. `None` altogether if nothing is to be spread.
pub(crate) fn soft_costs(snapshot: &Snapshot, pod: &PodInfo, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<Option<i64>>> {
    let own = constraints(pod, "ScheduleAnyway");
    let by_default = pod.spec.topology_spread_constraints.as_ref().is_none_or(Vec::is_empty);
    let constraints = if by_default { defaults(snapshot, pod) } else { own };
    if constraints.is_empty() {
        return None;
    }
    let labelled = |node: &NodeInfo| constraints.iter().all(|c| node.labels.contains_key(&c.topology_key));
    let mut costs: Vec<Option<f64>> = nodes.iter().map(|node| (by_default || labelled(node)).then_some(0.0)).collect();
    for constraint in &constraints {
        let pods = matching(snapshot, &pod.namespace, &constraint.selector);
        let mut domains: HashMap<&String, i64> = HashMap::new();
        for node in snapshot.nodes() {
            if let Some(domain) = node.labels.get(&constraint.topology_key)
                && constraint.counts_on(pod, node)
            {
                *domains.entry(domain).or_insert(0) += pods.get(&node.name).copied().unwrap_or(0);
            }
        }
        // The weight evens out constraints over many small and few large domains (upstream `topologyNormalizingWeight`).
        let weight = f64::from(u32::try_from(domains.len()).unwrap_or(u32::MAX).saturating_add(2)).ln();
        for (node, cost) in nodes.iter().zip(&mut costs) {
            let domain = node.labels.get(&constraint.topology_key).and_then(|domain| domains.get(domain));
            if let (Some(cost), Some(count)) = (cost.as_mut(), domain) {
                *cost += to_f64(*count) * weight + to_f64(constraint.max_skew - 1);
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "costs are sums of pod counts")]
    Some(costs.into_iter().map(|cost| cost.map(|cost| cost.round() as i64)).collect())
}

#[expect(clippy::cast_precision_loss, reason = "pod counts are far below 2^52")]
fn to_f64(count: i64) -> f64 {
    count as f64
}

/// Upstream's default constraints: hosts with skew 3, zones with skew 5, both soft. Pods belong together if a Service
/// selects them, or a controller made them: then by their labels, less those that tell siblings apart.
fn defaults(snapshot: &Snapshot, pod: &PodInfo) -> Vec<Constraint> {
    let mut selector = Selector::default();
    let services = snapshot.services_of(pod);
    for (key, value) in services.iter().flat_map(|labels| labels.iter()) {
        selector.require(key, value);
    }
    if pod.controller {
        let shared = pod.labels.iter().filter(|(key, _)| !INDIVIDUAL_LABELS.contains(&key.as_str()));
        shared.for_each(|(key, value)| selector.require(key, value));
    }
    if services.is_empty() && !pod.controller || selector == Selector::default() {
        return Vec::new();
    }
    let constraint = |key: &str, max_skew| Constraint {
        topology_key: key.to_owned(),
        max_skew,
        min_domains: None,
        selector: selector.clone(),
        honor_affinity: true,
        honor_taints: false,
    };
    vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)]
}
