//! Affinity and anti-affinity between pods (upstream `interpodaffinity`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::filter::Reason;
use crate::pod::{PodInfo, Term};
use crate::snapshot::{NodeInfo, PlacedTerms, Placement, Snapshot};

/// Weight of another pod's required affinity towards this one (`hardPodAffinityWeight`).
const HARD_AFFINITY_WEIGHT: i64 = 1;

type Domain = (String, String);

/// Required terms, resolved to the topology domains they mean.
pub(crate) struct Required {
    /// Per term of the pod: the domains where a pod is that it wants to be near.
    wanted: Vec<(Arc<Term>, HashSet<Domain>)>,
    /// Domains with pods this pod must not be near.
    unwanted: HashSet<Domain>,
    unwanted_keys: HashSet<String>,
    /// Domains with pods that do not want this one near.
    repelling: HashSet<Domain>,
    repelling_keys: HashSet<String>,
    /// The pod satisfies its own affinity terms, and nothing else does anywhere: it may be the first of its kind.
    first_of_kind: bool,
}

impl Required {
    pub(crate) fn new(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        let domains = |term: &Arc<Term>| domains_of(snapshot, &term.topology_key, &matching(snapshot, term));
        let wanted: Vec<_> = pod.affinity.iter().map(|term| (term.clone(), domains(term))).collect();
        let unwanted = pod.anti_affinity.iter().flat_map(domains).collect();
        let own_namespace = snapshot.namespace_labels(&pod.namespace);
        let mut repelling = HashSet::new();
        let mut repelling_keys = HashSet::new();
        for placed in snapshot.forbidden.values() {
            if placed.term.matches(&pod.namespace, &own_namespace, &pod.labels) {
                repelling.extend(domains_of(snapshot, &placed.term.topology_key, &placed.placement));
                repelling_keys.insert(placed.term.topology_key.clone());
            }
        }
        let itself = |term: &Arc<Term>| term.matches(&pod.namespace, &own_namespace, &pod.labels);
        let first_of_kind = wanted.iter().all(|(_, near)| near.is_empty()) && pod.affinity.iter().all(itself);
        let unwanted_keys = pod.anti_affinity.iter().map(|term| term.topology_key.clone()).collect();
        Self { wanted, unwanted, unwanted_keys, repelling, repelling_keys, first_of_kind }
    }

    pub(crate) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        let domain = |key: &String| node.labels.get(key).map(|value| (key.clone(), value.clone()));
        let near = |(term, domains): &(Arc<Term>, HashSet<Domain>)| {
            domain(&term.topology_key).is_some_and(|domain| domains.contains(&domain))
        };
        // Even the first of its kind needs the nodes to have the labels (upstream `satisfyPodAffinity`).
        let labelled = self.wanted.iter().all(|(term, _)| node.labels.contains_key(&term.topology_key));
        if !labelled || !(self.wanted.iter().all(near) || self.first_of_kind) {
            return Some(Reason::Affinity);
        }
        let within = |keys: &HashSet<String>, domains: &HashSet<Domain>| {
            keys.iter().filter_map(domain).any(|domain| domains.contains(&domain))
        };
        if within(&self.unwanted_keys, &self.unwanted) {
            return Some(Reason::AntiAffinity);
        }
        within(&self.repelling_keys, &self.repelling).then_some(Reason::ExistingAntiAffinity)
    }
}

/// How well each node suits the preferred terms of the pod and of those already placed; `None` if there are none.
pub(crate) fn preferences(snapshot: &Snapshot, pod: &PodInfo, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
    let mut weights: HashMap<Domain, i64> = HashMap::new();
    let mut keys: HashSet<String> = HashSet::new();
    let mut add = |key: &str, placement: &Placement, weight: i64| {
        for (name, count) in placement {
            if let Some(value) = snapshot.node(name).and_then(|node| node.labels.get(key)) {
                *weights.entry((key.to_owned(), value.clone())).or_insert(0) += weight * i64::from(*count);
                keys.insert(key.to_owned());
            }
        }
    };
    for term in &pod.preferred {
        add(&term.topology_key, &matching(snapshot, term), term.weight);
    }
    let own_namespace = snapshot.namespace_labels(&pod.namespace);
    let mut towards_this = |terms: &PlacedTerms, factor: i64| {
        for placed in terms.values() {
            if placed.term.matches(&pod.namespace, &own_namespace, &pod.labels) {
                add(&placed.term.topology_key, &placed.placement, placed.term.weight * factor);
            }
        }
    };
    towards_this(&snapshot.preferred, 1);
    towards_this(&snapshot.required, HARD_AFFINITY_WEIGHT);
    if weights.is_empty() {
        return None;
    }
    let score = |node: &&Arc<NodeInfo>| -> i64 {
        let domains = keys.iter().filter_map(|key| Some((key.clone(), node.labels.get(key)?.clone())));
        domains.filter_map(|domain| weights.get(&domain)).sum()
    };
    Some(nodes.iter().map(score).collect())
}

/// Where pods are that a term speaks of: visits label sets, not pods.
fn matching(snapshot: &Snapshot, term: &Term) -> Placement {
    let mut found = Placement::new();
    let mut namespace: Option<(&String, Arc<crate::selector::Labels>)> = None;
    for (alike, placement) in &snapshot.alike {
        let labels = match &namespace {
            Some((name, labels)) if *name == &alike.namespace => labels.clone(),
            _ => {
                let labels = snapshot.namespace_labels(&alike.namespace);
                namespace = Some((&alike.namespace, labels.clone()));
                labels
            }
        };
        if term.matches(&alike.namespace, &labels, &alike.labels) {
            for (node, count) in placement {
                let total = found.get(node).copied().unwrap_or(0) + count;
                found.insert(node.clone(), total);
            }
        }
    }
    found
}

fn domains_of(snapshot: &Snapshot, key: &str, placement: &Placement) -> HashSet<Domain> {
    let values = placement.keys().filter_map(|name| snapshot.node(name)?.labels.get(key));
    values.map(|value| (key.to_owned(), value.clone())).collect()
}
