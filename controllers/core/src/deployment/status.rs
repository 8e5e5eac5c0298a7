use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet};

use super::rollout::{Member, Rollout};
use crate::{action::Action, meta};

const PROGRESSING: &str = "Progressing";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
/// `progressDeadlineSeconds` of a Deployment that has none.
const NO_DEADLINE: i32 = i32::MAX;

fn deadline(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds.filter(|seconds| *seconds != NO_DEADLINE)
}

/// Whether every pod of the Deployment is new and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let want = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == want
        && status.replicas.unwrap_or(0) == want
        && status.available_replicas.unwrap_or(0) == want
        && status.observed_generation >= deployment.metadata.generation
}

/// Counts over the ReplicaSets, conditions still missing.
pub(super) fn counts(rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |field: fn(&ReplicaSet) -> i32| -> i32 { rollout.members.iter().map(|member| field(&member.set)).sum() };
    let made = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready = sum(|set| set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0));
    let available = sum(|set| set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0));
    let size: i32 = rollout.members.iter().map(Member::size).sum();
    let positive = |n: i32| Some(n).filter(|n| *n > 0);
    let before = rollout.deployment().status.clone().unwrap_or_default();
    let terminating = sum(|set| set.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or(0));
    DeploymentStatus {
        observed_generation: rollout.deployment().metadata.generation,
        replicas: positive(rollout.members.iter().map(|member| made(&member.set)).sum()),
        updated_replicas: positive(rollout.new_member().map_or(0, |member| made(&member.set))),
        ready_replicas: positive(ready),
        available_replicas: positive(available),
        unavailable_replicas: positive(size - available),
        terminating_replicas: before.terminating_replicas.or(positive(terminating)).map(|_| terminating),
        collision_count: before.collision_count,
        conditions: Some(vec![availability(rollout, available)]),
    }
}

fn availability(rollout: &Rollout<'_>, available: i32) -> DeploymentCondition {
    let enough = available >= rollout.replicas() - rollout.max_unavailable();
    if enough {
        rollout.conditions.make(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".to_owned(),
        )
    } else {
        rollout.conditions.make(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned(),
        )
    }
}

/// Writes a status without rewriting the rest, removed fields included.
pub(super) fn write(deployment: &Deployment, status: &DeploymentStatus) -> Action {
    let mut copy = deployment.clone();
    copy.status = Some(status.clone());
    Action::update_status(&copy)
}

/// The conditions of a Deployment while a step changes them.
pub(super) struct Conditions {
    list: Vec<DeploymentCondition>,
    /// As cached, before this step.
    before: DeploymentStatus,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let before = deployment.status.clone().unwrap_or_default();
        Self { list: before.conditions.clone().unwrap_or_default(), before, now }
    }

    fn make(&self, kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
        let now = meta::wire_time(self.now);
        DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        }
    }

    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    fn progressing_reason(&self) -> Option<&str> {
        self.get(PROGRESSING)?.reason.as_deref()
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }

    /// A condition of the same status and reason stays as it is, so that its times mean something.
    fn set(&mut self, mut condition: DeploymentCondition) {
        if let Some(current) = self.get(&condition.type_) {
            if current.status == condition.status && current.reason == condition.reason {
                return;
            }
            if current.status == condition.status {
                condition.last_transition_time = current.last_transition_time.clone();
            }
        }
        self.remove(&condition.type_.clone());
        self.list.push(condition);
    }

    fn progress(&mut self, status: &str, reason: &str, message: String) {
        let condition = self.make(PROGRESSING, status, reason, message);
        self.set(condition);
    }

    pub(super) fn note_pause(&mut self, spec: &DeploymentSpec) {
        if deadline(spec).is_none() || self.progressing_reason() == Some(TIMED_OUT) {
            return;
        }
        let noted = self.progressing_reason() == Some(PAUSED);
        match (spec.paused == Some(true), noted) {
            (true, false) => self.progress("Unknown", PAUSED, "Deployment is paused".to_owned()),
            (false, true) => {
                self.progress("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
            }
            _ => {}
        }
    }

    pub(super) fn found_new(&mut self, spec: &DeploymentSpec, name: &str) {
        if deadline(spec).is_some() && self.get(PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{name}\"");
            self.progress("True", "FoundNewReplicaSet", message);
        }
    }

    pub(super) fn created_new(&mut self, spec: &DeploymentSpec, name: &str) {
        if deadline(spec).is_some() {
            let message = format!("Created new replica set \"{name}\"");
            self.progress("True", "NewReplicaSetCreated", message);
        }
    }

    pub(super) fn not_created(&mut self, spec: &DeploymentSpec, message: &str) {
        if deadline(spec).is_some() {
            self.progress("False", "ReplicaSetCreateError", message.to_owned());
        }
    }

    /// Complete, progressing or stuck. Returns when to look again for the deadline's sake.
    pub(super) fn judge_progress(
        &mut self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        status: &DeploymentStatus,
        new: Option<String>,
    ) -> Option<Duration> {
        let Some(deadline) = deadline(spec) else {
            self.remove(PROGRESSING);
            return None;
        };
        let subject = new.map_or_else(
            || format!("Deployment \"{}\"", meta::name(deployment)),
            |name| format!("ReplicaSet \"{name}\""),
        );
        let was_available = self
            .before
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == PROGRESSING && c.reason.as_deref() == Some(NEW_AVAILABLE));
        if was_available && status.replicas == status.updated_replicas {
            return None;
        }
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            self.progress("True", NEW_AVAILABLE, message);
            return None;
        }
        if self.has_moved(status) {
            let mut condition =
                self.make(PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."));
            if let Some(current) = self.get(PROGRESSING).filter(|c| c.status == "True") {
                condition.last_transition_time = current.last_transition_time.clone();
            }
            self.remove(PROGRESSING);
            self.list.push(condition);
        }
        let current = self.get(PROGRESSING)?;
        match current.reason.as_deref() {
            // A rollout that begins now has not been written as one yet; the write's own event comes back here.
            Some(NEW_AVAILABLE) | Some(TIMED_OUT) => return None,
            _ => {}
        }
        let since = current.last_update_time.as_ref()?.0;
        let at = meta::after_seconds(since, i64::from(deadline));
        if at < self.now {
            let message = format!("{subject} has timed out progressing.");
            self.progress("False", TIMED_OUT, message);
            return None;
        }
        // One second more, since wire times have no fractions.
        meta::until(self.now, meta::after_seconds(at, 1))
    }

    fn has_moved(&self, status: &DeploymentStatus) -> bool {
        let n = |field: Option<i32>| field.unwrap_or(0);
        let old = |status: &DeploymentStatus| n(status.replicas) - n(status.updated_replicas);
        n(status.updated_replicas) > n(self.before.updated_replicas)
            || old(status) < old(&self.before)
            || n(status.ready_replicas) > n(self.before.ready_replicas)
            || n(status.available_replicas) > n(self.before.available_replicas)
    }

    /// A ReplicaSet that cannot make pods is the Deployment's failure too.
    pub(super) fn pass_on_failure<'s>(&mut self, sets: impl Iterator<Item = &'s ReplicaSet>) {
        let failure = sets
            .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
            .flatten()
            .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
        match failure {
            None => self.remove("ReplicaFailure"),
            Some(failure) => {
                let condition = self.make(
                    "ReplicaFailure",
                    "True",
                    failure.reason.as_deref().unwrap_or("FailedCreate"),
                    failure.message.clone().unwrap_or_default(),
                );
                self.set(condition);
            }
        }
    }

    pub(super) fn put_into(mut self, mut status: DeploymentStatus) -> DeploymentStatus {
        for condition in status.conditions.take().into_iter().flatten() {
            self.set(condition);
        }
        status.conditions = Some(self.list);
        status
    }
}
