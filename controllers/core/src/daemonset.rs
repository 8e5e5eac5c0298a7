//! DaemonSets: one pod on every node that takes it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet},
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
    },
};

use crate::{
    Failure,
    action::Action,
    claim::claim,
    deployment::resolve_percent,
    meta, node,
    pods::{self, Availability},
    replicaset::{BURST_PODS_MAX, count},
    selector,
    set_revision::{self, REVISION_LABEL},
};

/// Taints every daemon pod tolerates (`daemon/util`, `AddOrUpdateDaemonPodTolerations`).
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What is seen of one DaemonSet.
#[derive(Debug)]
pub struct Observed {
    /// The DaemonSet.
    pub set: Arc<DaemonSet>,
    /// Pods of its namespace that it controls or that nobody does.
    pub pods: Vec<Arc<Pod>>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
    /// Its ControllerRevisions.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// Pods of one node, oldest first.
type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// Creates missing pods, removes those that are out of place, and replaces old ones within `maxUnavailable`.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let set = &*observed.set;
    let Some(spec) = set.spec.as_ref().filter(|spec| !selector::is_empty(&spec.selector)) else {
        return Vec::new();
    };
    if meta::is_deleting(set) {
        return Vec::new();
    }
    let claimed = claim(set, &spec.selector, observed.pods.iter().cloned());
    let mut actions = claimed.actions;
    let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let in_use = |revision: &ControllerRevision| {
        let hash = meta::label(revision, REVISION_LABEL);
        claimed.owned.iter().any(|pod| meta::label(&**pod, REVISION_LABEL) == hash)
    };
    let limit = spec.revision_history_limit.unwrap_or(10);
    let revisions = set_revision::settle(set, &spec.template, labels, &observed.revisions, limit, in_use);
    actions.extend(revisions.actions);

    let mut by_node = ByNode::new();
    for pod in &claimed.owned {
        by_node.entry(node_of(pod).to_owned()).or_default().push(Arc::clone(pod));
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| (meta::created(&**pod), meta::name(&**pod).to_owned()));
    }
    let (status, wake) = status(observed, spec, &by_node, &revisions.hash);
    if Some(&status) != set.status.as_ref() {
        let mut copy = set.clone();
        copy.status = Some(status);
        actions.push(Action::update_status(&copy));
    }
    let (creates, deletes) = place(observed, spec, &by_node, &revisions.hash);
    let settled = creates.is_empty() && deletes.is_empty();
    actions.extend(deletes);
    actions.extend(creates.into_iter().take(BURST_PODS_MAX));
    if settled {
        actions.extend(replace(observed, spec, &by_node, &revisions.hash));
    }
    actions.extend(wake.and_then(|at| Some(Action::Wake { after: meta::until(observed.now, at)? })));
    actions
}

/// The node a pod is on, or is meant for while it waits for the scheduler.
fn node_of(pod: &Pod) -> &str {
    let bound = pods::node_name(pod);
    if !bound.is_empty() {
        return bound;
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .and_then(|selector| selector.node_selector_terms.first())
        .and_then(|term| term.match_fields.as_ref()?.first()?.values.as_ref()?.first())
        .map_or("", String::as_str)
}

/// Whether the node should run a pod of the set, and whether a running one may stay.
fn wants(spec: &DaemonSetSpec, node: &Node) -> (bool, bool) {
    let Some(pod) = &spec.template.spec else { return (false, false) };
    let labels = node.metadata.labels.as_ref();
    let selected = pod.node_selector.as_ref().is_none_or(|want| selector::contains(want, labels))
        && pod.node_name.as_ref().is_none_or(|name| name.is_empty() || name == meta::name(node))
        && node_affinity_fits(pod.affinity.as_ref(), node);
    let mut tolerations = pod.tolerations.clone().unwrap_or_default();
    tolerations.extend(daemon_tolerations(pod.host_network == Some(true)));
    let tolerated = |taint: &&Taint| tolerations.iter().any(|t| node::tolerates(t, taint));
    let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let run = taints().filter(|t| t.effect != "PreferNoSchedule").all(|t| tolerated(&t));
    let stay = taints().filter(|t| t.effect == "NoExecute").all(|t| tolerated(&t));
    (selected && run, selected && stay)
}

fn node_affinity_fits(affinity: Option<&Affinity>, node: &Node) -> bool {
    let required = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| {
            let labels = term.match_expressions.iter().flatten().all(|requirement| {
                let have = node.metadata.labels.as_ref().and_then(|l| l.get(&requirement.key));
                meets(requirement, have.map(String::as_str))
            });
            let mut fields = term.match_fields.iter().flatten();
            labels && fields.all(|field| meets(field, Some(meta::name(node))))
        })
    })
}

fn meets(requirement: &NodeSelectorRequirement, have: Option<&str>) -> bool {
    let values = || requirement.values.iter().flatten();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |test: fn(&i64, &i64) -> bool| {
        let (have, want) = (have.and_then(number), values().next().and_then(|v| number(v)));
        matches!((have, want), (Some(have), Some(want)) if test(&have, &want))
    };
    match requirement.operator.as_str() {
        "In" => have.is_some_and(|have| values().any(|value| value == have)),
        "NotIn" => !have.is_some_and(|have| values().any(|value| value == have)),
        "Exists" => have.is_some(),
        "DoesNotExist" => have.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

fn daemon_tolerations(host_network: bool) -> Vec<Toleration> {
    let tolerate = |(key, effect): (&str, &str)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    TOLERATED.into_iter().chain(network).map(tolerate).collect()
}

fn make(observed: &Observed, spec: &DaemonSetSpec, node: &str, hash: &str) -> Action {
    let mut pod = pods::from_template(&spec.template, &*observed.set);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = observed.set.metadata.generation {
        labels.insert("pod-template-generation".to_owned(), generation.to_string());
    }
    let body = pod.spec.get_or_insert_default();
    let own = daemon_tolerations(body.host_network == Some(true));
    body.tolerations.get_or_insert_default().extend(own);
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    // The scheduler binds the pod, to this node and no other.
    let affinity = body.affinity.get_or_insert_default();
    let selector = NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None }],
    };
    let required = NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(selector),
        ..affinity.node_affinity.clone().unwrap_or_default()
    };
    affinity.node_affinity = Some(required);
    Action::create(&pod)
}

/// Creations and deletions that put exactly one live pod on every node that wants one.
fn place(observed: &Observed, spec: &DaemonSetSpec, by_node: &ByNode, hash: &str) -> (Vec<Action>, Vec<Action>) {
    let (mut creates, mut deletes) = (Vec::new(), Vec::new());
    let none = Vec::new();
    for node in &observed.nodes {
        let name = meta::name(&**node);
        let (run, stay) = wants(spec, node);
        let here = by_node.get(name).unwrap_or(&none);
        let (ended, live): (Vec<_>, Vec<_>) = here.iter().partition(|pod| pods::is_terminated(pod));
        if !stay {
            deletes.extend(here.iter().filter(|p| !meta::is_deleting(&***p)).map(|p| Action::delete(&**p)));
            continue;
        }
        for pod in ended.iter().filter(|pod| !meta::is_deleting(&****pod)) {
            deletes.push(Action::event(
                &*observed.set,
                true,
                "FailedDaemonPod",
                format!("Found failed daemon pod {} on node {name}, will try to kill it", meta::name(&***pod)),
            ));
            deletes.push(Action::delete(&***pod));
        }
        // A deleted pod keeps its place until it is gone, or two would use the node's ports at once.
        if run && live.is_empty() && ended.is_empty() {
            creates.push(make(observed, spec, name, hash));
        }
        let surplus = live.iter().filter(|pod| !meta::is_deleting(&****pod)).skip(1 + surge(spec));
        deletes.extend(surplus.map(|pod| Action::delete(&***pod)));
    }
    let exists = |name: &str| observed.nodes.iter().any(|node| meta::name(&**node) == name);
    for (_, strays) in by_node.iter().filter(|(name, _)| !exists(name)) {
        // Bound pods of nodes that are gone are the pod garbage collector's.
        let waiting = strays.iter().filter(|pod| pods::node_name(pod).is_empty());
        deletes.extend(waiting.filter(|p| !meta::is_deleting(&***p)).map(|p| Action::delete(&**p)));
    }
    (creates, deletes)
}

fn rolling(spec: &DaemonSetSpec) -> Option<&RollingUpdateDaemonSet> {
    spec.update_strategy.as_ref()?.rolling_update.as_ref()
}

fn surge(spec: &DaemonSetSpec) -> usize {
    let surge = rolling(spec).and_then(|rolling| rolling.max_surge.as_ref());
    usize::from(surge.is_some_and(|surge| resolve_percent(surge, 100, true) > 0))
}

/// Replaces pods of older templates, as many at a time as may be unavailable.
fn replace(observed: &Observed, spec: &DaemonSetSpec, by_node: &ByNode, hash: &str) -> Vec<Action> {
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    if strategy == Some("OnDelete") {
        return Vec::new();
    }
    let nodes: Vec<&Arc<Node>> = observed.nodes.iter().filter(|node| wants(spec, node).0).collect();
    let total = count(nodes.len());
    let allowed = rolling(spec)
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .map_or(1, |value| resolve_percent(value, total, true))
        .max(i32::from(surge(spec) == 0));
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let is_available = |pod: &Arc<Pod>| {
        !meta::is_deleting(&**pod) && pods::availability(pod, min_ready, observed.now) == Availability::Available
    };
    let is_new = |pod: &Arc<Pod>| meta::label(&**pod, REVISION_LABEL) == Some(hash);
    let none = Vec::new();
    let (mut unavailable, mut actions, mut candidates) = (0, Vec::new(), Vec::new());
    for node in nodes {
        let here = by_node.get(meta::name(&**node)).unwrap_or(&none);
        let old = here.iter().find(|pod| !is_new(pod) && !meta::is_deleting(&***pod));
        let new = here.iter().find(|pod| is_new(pod) && !meta::is_deleting(&***pod));
        match (old, new) {
            // Made before its node's old pod was told to go: that one goes once this one serves.
            (Some(old), Some(new)) if is_available(new) => actions.push(Action::delete(&**old)),
            (Some(_), Some(_)) => {}
            (Some(old), None) if surge(spec) > 0 && is_available(old) => {
                actions.push(make(observed, spec, meta::name(&**node), hash));
            }
            (Some(old), None) if is_available(old) => candidates.push(old),
            // An old pod that does not serve costs nothing to replace.
            (Some(old), None) => {
                unavailable += 1;
                actions.push(Action::delete(&**old));
            }
            (None, new) => unavailable += i32::from(!new.is_some_and(is_available)),
        }
    }
    let room = usize::try_from(allowed - unavailable).unwrap_or(0);
    actions.extend(candidates.into_iter().take(room).map(|pod| Action::delete(&**pod)));
    actions
}

fn status(
    observed: &Observed,
    spec: &DaemonSetSpec,
    by_node: &ByNode,
    hash: &str,
) -> (DaemonSetStatus, Option<Timestamp>) {
    let before = observed.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: observed.set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    let mut wake: Option<Timestamp> = None;
    for node in &observed.nodes {
        let pods = by_node.get(meta::name(&**node));
        let run = wants(spec, node).0;
        if !run {
            status.number_misscheduled += i32::from(pods.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = pods.and_then(|pods| pods.iter().max_by_key(|pod| pods::is_ready(pod))) else {
            continue;
        };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        updated += i32::from(meta::label(&**pod, REVISION_LABEL) == Some(hash));
        match pods::availability(pod, spec.min_ready_seconds.unwrap_or(0), observed.now) {
            Availability::Available => available += 1,
            Availability::At(at) => wake = Some(wake.map_or(at, |earlier| earlier.min(at))),
            Availability::NotReady => {}
        }
    }
    let positive = |n: i32| Some(n).filter(|n| *n > 0);
    status.number_available = positive(available);
    status.number_unavailable = positive(status.desired_number_scheduled - available);
    status.updated_number_scheduled = positive(updated);
    (status, wake)
}
