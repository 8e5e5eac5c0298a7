//! What controllers ask of a pod.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::meta::{self, Object};

/// `status.phase`, empty before the API server has set it.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether all containers have ended for good.
#[must_use]
pub fn is_terminated(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts towards a workload's replicas: neither ended nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminated(pod) && !meta::is_deleting(pod)
}

/// The condition of that type.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether condition `Ready` holds.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// The node the pod is bound to, empty when it is not.
#[must_use]
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Since when the pod is ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")
        .filter(|ready| ready.status == "True")
        .and_then(|ready| ready.last_transition_time.as_ref())
        .map(|time| time.0)
}

/// Whether a pod has been ready for its `minReadySeconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Ready for long enough.
    Available,
    /// Ready, and available at this time if it stays so.
    At(Timestamp),
    /// Not ready.
    NotReady,
}

/// Availability of a pod at `now`.
#[must_use]
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::NotReady;
    }
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    match ready_since(pod) {
        None => Availability::NotReady,
        Some(since) => {
            let at = meta::after_seconds(since, i64::from(min_ready_seconds));
            if at <= now { Availability::Available } else { Availability::At(at) }
        }
    }
}

/// Restarts of the pod's most restarted container.
fn restarts(pod: &Pod) -> i32 {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|container| container.restart_count)
        .max()
        .unwrap_or(0)
}

/// Logarithmic age classes, so that equally old pods spread over nodes instead of by the second
/// (KEP-2185, `LogarithmicScaleDown`).
fn age_class(now: Timestamp, since: Timestamp) -> i64 {
    let seconds = now.duration_since(since).as_secs().max(0);
    64 - i64::from(seconds.leading_zeros())
}

/// Sorts the pods to delete first to the front, in upstream's order
/// (`pkg/controller/controller_utils.go`, `ActivePodsWithRanks`). `neighbours` is how many pods of the same owner share
/// the pod's node.
pub fn rank_for_deletion<P: AsRef<Pod>>(pods: &mut [P], now: Timestamp, neighbours: impl Fn(&Pod) -> usize) {
    pods.sort_by_cached_key(|pod| {
        let pod = pod.as_ref();
        let phase = match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i64 = meta::annotation(pod, "controller.kubernetes.io/pod-deletion-cost")
            .and_then(|cost| cost.parse().ok())
            .unwrap_or(0);
        let ready_age = ready_since(pod).map(|since| age_class(now, since));
        (
            !node_name(pod).is_empty(),
            phase,
            is_ready(pod),
            cost,
            Reverse(neighbours(pod)),
            ready_age.unwrap_or(0),
            Reverse(restarts(pod)),
            age_class(now, meta::created(pod)),
            meta::uid(pod).to_owned(),
        )
    });
}

/// A pod of `template` controlled by `owner`, to be named by the API server.
pub fn from_template<O: Object>(template: &PodTemplateSpec, owner: &O) -> Pod {
    let given = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(owner))),
            namespace: owner.metadata().namespace.clone(),
            labels: given.and_then(|meta| meta.labels.clone()),
            annotations: given.and_then(|meta| meta.annotations.clone()),
            finalizers: given.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![meta::controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
