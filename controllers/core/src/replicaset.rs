//! ReplicaSets and ReplicationControllers: as many pods as asked for.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{
            Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::Serialize;

use crate::{
    Failure,
    action::Action,
    claim::claim,
    meta::{self, Object},
    pods::{self, Availability},
    selector,
};

/// Most pods created or deleted in one reconciliation (upstream's `BurstReplicas`).
pub const BURST_PODS_MAX: usize = 500;

/// What a ReplicaSet's reconciliation sees.
#[derive(Debug)]
pub struct Observed<O> {
    /// The owner.
    pub owner: Arc<O>,
    /// Pods it may own: those it controls and those nobody does in its namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Pods of its siblings under the same controller, which make a node crowded.
    pub related: Vec<Arc<Pod>>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// A kind that keeps a number of pods of one template.
pub trait Replicating: Object + Serialize + Clone + PartialEq {
    /// Pods asked for.
    fn replicas(&self) -> i32;
    /// Seconds a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// Which pods belong.
    fn selector(&self) -> LabelSelector;
    /// What new pods look like.
    fn template(&self) -> PodTemplateSpec;
    /// The present status.
    fn status(&self) -> ReplicaSetStatus;
    /// The object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicating for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }
    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Replicating for ReplicationController {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.spec.as_ref().and_then(|spec| spec.selector.clone()),
            match_expressions: None,
        }
    }
    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }
    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.map(|conditions| {
            let convert = |from: ReplicationControllerCondition| ReplicaSetCondition {
                type_: from.type_,
                status: from.status,
                reason: from.reason,
                message: from.message,
                last_transition_time: from.last_transition_time,
            };
            conditions.into_iter().map(convert).collect()
        });
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            terminating_replicas: None,
            conditions,
        }
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status.conditions.map(|conditions| {
            let convert = |from: ReplicaSetCondition| ReplicationControllerCondition {
                type_: from.type_,
                status: from.status,
                reason: from.reason,
                message: from.message,
                last_transition_time: from.last_transition_time,
            };
            conditions.into_iter().map(convert).collect()
        });
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

/// Status first, since creations may fail; then as many creations or deletions as the difference asks for.
pub fn reconcile<O: Replicating>(observed: &Observed<O>) -> Vec<Action>
where
    O::Scope: 'static,
{
    let owner = &*observed.owner;
    let wanted = owner.selector();
    if selector::is_empty(&wanted) {
        return Vec::new();
    }
    let alive = observed.pods.iter().filter(|pod| !pods::is_terminated(pod)).cloned();
    let claimed = claim(owner, &wanted, alive);
    let mut actions = claimed.actions;
    let (terminating, active): (Vec<_>, Vec<_>) = claimed.owned.into_iter().partition(|pod| meta::is_deleting(&**pod));

    let (status, wake) = status(observed, &active, terminating.len());
    if status != owner.status() {
        actions.push(Action::update_status(&owner.with_status(status)));
    }
    if !meta::is_deleting(owner) {
        scale(observed, active, &mut actions);
    }
    if let Some(after) = wake.and_then(|at| meta::until(observed.now, at)) {
        actions.push(Action::Wake { after });
    }
    actions
}

fn scale<O: Replicating>(observed: &Observed<O>, mut active: Vec<Arc<Pod>>, actions: &mut Vec<Action>)
where
    O::Scope: 'static,
{
    let owner = &*observed.owner;
    let want = usize::try_from(owner.replicas()).unwrap_or(0);
    if active.len() < want {
        let pod = pods::from_template(&owner.template(), owner);
        let missing = (want - active.len()).min(BURST_PODS_MAX);
        actions.extend((0..missing).map(|_| Action::create(&pod)));
        return;
    }
    let surplus = (active.len() - want).min(BURST_PODS_MAX);
    if surplus == 0 {
        return;
    }
    let mut crowd: BTreeMap<String, usize> = BTreeMap::new();
    for pod in active.iter().chain(&observed.related).filter(|pod| pods::is_active(pod)) {
        *crowd.entry(pods::node_name(pod).to_owned()).or_default() += 1;
    }
    pods::rank_for_deletion(&mut active, observed.now, |pod| crowd.get(pods::node_name(pod)).copied().unwrap_or(0));
    for pod in &active[..surplus] {
        actions.push(Action::delete(&**pod));
        actions.push(Action::event(owner, false, "SuccessfulDelete", format!("Deleted pod: {}", meta::name(&**pod))));
    }
}

fn status<O: Replicating>(
    observed: &Observed<O>,
    active: &[Arc<Pod>],
    terminating: usize,
) -> (ReplicaSetStatus, Option<Timestamp>) {
    let owner = &*observed.owner;
    let template = owner.template().metadata.and_then(|meta| meta.labels).unwrap_or_default();
    let (mut labelled, mut ready, mut available) = (0, 0, 0);
    let mut wake: Option<Timestamp> = None;
    for pod in active {
        labelled += i32::from(selector::contains(&template, pod.metadata.labels.as_ref()));
        match pods::availability(pod, owner.min_ready_seconds(), observed.now) {
            Availability::Available => {
                ready += 1;
                available += 1;
            }
            Availability::At(at) => {
                ready += 1;
                wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
            }
            Availability::NotReady => ready += i32::from(pods::is_ready(pod)),
        }
    }
    let before = owner.status();
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: Some(labelled).filter(|n| *n > 0),
        ready_replicas: Some(ready).filter(|n| *n > 0),
        available_replicas: Some(available).filter(|n| *n > 0),
        terminating_replicas: before
            .terminating_replicas
            .or((terminating > 0).then_some(0))
            .map(|_| count(terminating)),
        observed_generation: owner.metadata().generation,
        conditions: conditions(before.conditions, observed.failure.as_ref(), observed.now),
    };
    (status, wake)
}

fn conditions(
    before: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = before.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(failure) => {
            let same = |condition: &ReplicaSetCondition| {
                condition.type_ == "ReplicaFailure" && condition.reason.as_deref() == Some(failure.reason)
            };
            if !conditions.iter().any(same) {
                conditions.retain(|condition| condition.type_ != "ReplicaFailure");
                conditions.push(ReplicaSetCondition {
                    type_: "ReplicaFailure".to_owned(),
                    status: "True".to_owned(),
                    reason: Some(failure.reason.to_owned()),
                    message: Some(failure.message.clone()),
                    last_transition_time: Some(meta::wire_time(now)),
                });
            }
        }
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

pub(crate) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
