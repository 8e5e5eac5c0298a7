//! Nodes that fall silent: conditions, taints, and the pods on them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint, Toleration};
use serde_json::json;

use crate::{action::Action, meta, pods};

/// Taint of a node that reports it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node that reports nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
/// Conditions a kubelet answers for; they become Unknown when it falls silent.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep new pods away while they hold, and the taint that does it.
const PRESSURE_TAINTS: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// What is seen of one node.
#[derive(Debug)]
pub struct Observed {
    /// The node.
    pub node: Arc<Node>,
    /// When this process last saw a heartbeat, by its own clock: hosts' clocks need not agree.
    pub heard: Timestamp,
    /// Silence after which a node counts as lost.
    pub grace: Duration,
    /// Whether any node is ready. When none is, the fault is more likely ours than theirs, and no pod is evicted
    /// (upstream's full disruption mode).
    pub any_ready: bool,
    /// Pods bound to the node.
    pub pods: Vec<Arc<Pod>>,
    /// The time.
    pub now: Timestamp,
}

/// Value of the node's `Ready` condition: `True`, `False` or `Unknown`, the last also when it is missing.
#[must_use]
pub fn readiness(node: &Node) -> &str {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "Ready")
        .map_or("Unknown", |ready| ready.status.as_str())
}

/// Conditions, then taints, then the readiness of the pods.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let node = &*observed.node;
    let mut actions = Vec::new();
    if meta::is_deleting(node) {
        return actions;
    }
    let grace = i64::try_from(observed.grace.as_secs()).unwrap_or(i64::MAX);
    let sub_second = jiff::SignedDuration::new(0, observed.grace.subsec_nanos().cast_signed());
    let deadline = meta::after_seconds(observed.heard, grace).checked_add(sub_second).unwrap_or(Timestamp::MAX);
    let silent = deadline <= observed.now;
    let mut readiness = readiness(node).to_owned();
    if silent {
        if let Some(action) = mark_unknown(observed) {
            actions.push(Action::event(
                node,
                false,
                "NodeNotReady",
                format!("Node {} status is now: NodeNotReady", meta::name(node)),
            ));
            actions.push(action);
        }
        "Unknown".clone_into(&mut readiness);
    } else {
        actions.extend(meta::until(observed.now, deadline).map(|after| Action::Wake { after }));
    }
    actions.extend(taint(observed, &readiness));
    if readiness == "Unknown" {
        let ready = observed.pods.iter().filter(|pod| pods::is_ready(pod));
        actions.extend(ready.map(|pod| mark_not_ready(pod, observed.now)));
    }
    actions
}

fn mark_unknown(observed: &Observed) -> Option<Action> {
    let now = meta::wire_time(observed.now);
    let mut copy = (*observed.node).clone();
    let conditions = copy.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut changed = false;
    for kind in KUBELET_CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                changed = true;
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(now.clone());
            }
            None => {
                changed = true;
                conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: observed.node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(now.clone()),
                });
            }
        }
    }
    changed.then(|| Action::update_status(&copy))
}

/// The taints this controller answers for, as they should be; all others stay.
fn taint(observed: &Observed, readiness: &str) -> Option<Action> {
    let node = &*observed.node;
    let present = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let holds = |kind: &str| {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    // A disruption of everything adds no eviction, but neither does it take one back.
    let execute = |key: &str| observed.any_ready || present.iter().any(|t| t.key == key && t.effect == NO_EXECUTE);
    let (lost, unready) = (readiness == "Unknown", readiness == "False");
    let mut wanted = vec![
        (UNREACHABLE, NO_SCHEDULE, lost),
        (UNREACHABLE, NO_EXECUTE, lost && execute(UNREACHABLE)),
        (NOT_READY, NO_SCHEDULE, unready),
        (NOT_READY, NO_EXECUTE, unready && execute(NOT_READY)),
        (UNSCHEDULABLE, NO_SCHEDULE, cordoned),
    ];
    if !lost {
        wanted.extend(PRESSURE_TAINTS.map(|(kind, key)| (key, NO_SCHEDULE, holds(kind))));
    }
    let mut taints = present.clone();
    for (key, effect, want) in wanted {
        let at = taints.iter().position(|taint| taint.key == key && taint.effect == effect);
        match (at, want) {
            (None, true) => taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(meta::wire_time(observed.now)),
            }),
            (Some(at), false) => {
                taints.remove(at);
            }
            _ => {}
        }
    }
    (taints != present).then(|| {
        // A conflict with a kubelet that registers itself anew is tried again from the cache.
        Action::patch(
            node,
            json!({
                "metadata": { "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": taints },
            }),
        )
    })
}

fn mark_not_ready(pod: &Pod, now: Timestamp) -> Action {
    let mut conditions: Vec<PodCondition> =
        pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
        condition.status = "False".to_owned();
        condition.reason = Some("NodeNotReady".to_owned());
        condition.last_transition_time = Some(meta::wire_time(now));
    }
    Action::patch_status(pod, json!({ "conditions": conditions }))
}

/// What is seen of a pod on a node with `NoExecute` taints.
#[derive(Debug)]
pub struct EvictionObserved {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its node.
    pub node: Arc<Node>,
    /// The time.
    pub now: Timestamp,
}

/// Evicts a pod from a node whose `NoExecute` taints it does not tolerate, or no longer: the earliest
/// `tolerationSeconds` after its taint decides.
#[must_use]
pub fn evict(observed: &EvictionObserved) -> Vec<Action> {
    let pod = &*observed.pod;
    if meta::is_deleting(pod) || pods::is_terminated(pod) {
        return Vec::new();
    }
    let tolerations: &[Toleration] = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = observed.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut end = Timestamp::MAX;
    for taint in taints.filter(|taint| taint.effect == NO_EXECUTE) {
        let fitting: Vec<_> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let seconds = fitting.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        let since = taint.time_added.as_ref().map_or(observed.now, |time| time.0);
        match (fitting.is_empty(), seconds) {
            (true, _) => end = Timestamp::MIN,
            (false, Some(seconds)) => end = end.min(meta::after_seconds(since, seconds.max(0))),
            (false, None) => {}
        }
    }
    if end == Timestamp::MAX {
        return Vec::new();
    }
    if let Some(after) = meta::until(observed.now, end) {
        return vec![Action::Wake { after }];
    }
    let message = format!("Marking for deletion Pod {}/{}", meta::namespace(pod), meta::name(pod));
    vec![
        Action::event(pod, false, "TaintManagerEviction", message),
        disrupt(pod, observed.now, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", None),
        Action::delete(pod),
    ]
}

/// Whether a toleration covers a taint (`pkg/apis/core/v1/helper`, `ToleratesTaint`).
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == taint.value.clone().unwrap_or_default(),
        _ => false,
    }
}

/// Sets condition `DisruptionTarget`, and the phase when the kubelet no longer can.
pub(crate) fn disrupt(pod: &Pod, now: Timestamp, reason: &str, message: &str, phase: Option<&str>) -> Action {
    let mut conditions: Vec<PodCondition> =
        pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(meta::wire_time(now)),
        ..PodCondition::default()
    });
    let mut status = json!({ "conditions": conditions });
    if let Some(phase) = phase {
        status["phase"] = json!(phase);
    }
    Action::patch_status(pod, status)
}

#[cfg(test)]
mod tests;
