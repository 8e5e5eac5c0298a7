//! Deployments: ReplicaSets that replace each other, step by step.
//!
//! Mirrors upstream's `pkg/controller/deployment`: one reconciliation makes at most one step, computes the status from
//! the ReplicaSets' own status, and the next event of a ReplicaSet makes the next step.

mod proportion;
mod revision;
mod rollout;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};

pub use revision::{DESIRED_REPLICAS, MAX_REPLICAS, REVISION, template_hash};
use rollout::Rollout;
pub(crate) use rollout::resolve_percent;

use crate::{Failure, action::Action, claim::claim, meta, pods, selector};

/// What a Deployment's reconciliation sees.
#[derive(Debug)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Arc<Deployment>,
    /// ReplicaSets of its namespace that it controls or that nobody does.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// Pods of those ReplicaSets, which `Recreate` waits for.
    pub pods: Vec<Arc<Pod>>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// One step of a rollout.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let deployment = &*observed.deployment;
    let Some(spec) = &deployment.spec else { return Vec::new() };
    if selector::is_empty(&spec.selector) {
        return Vec::new();
    }
    let claimed = claim(deployment, &spec.selector, observed.replica_sets.iter().cloned());
    let mut rollout = Rollout::new(observed, spec, &claimed.owned);
    rollout.actions = claimed.actions;
    if meta::is_deleting(deployment) {
        return rollout.finish_with_counts_only();
    }
    rollout.note_pause();
    if spec.paused == Some(true) || rollout.is_scaling() {
        rollout.settle_revisions(false);
        rollout.scale_in_proportion();
        if spec.paused == Some(true) {
            rollout.remove_old_history();
        }
        return rollout.finish_with_counts_only();
    }
    let recreate = spec.strategy.as_ref().is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
    if recreate {
        replace_at_once(&mut rollout, &observed.pods);
    } else {
        replace_gradually(&mut rollout);
    }
    rollout.finish()
}

/// `strategy: RollingUpdate`.
fn replace_gradually(rollout: &mut Rollout<'_>) {
    rollout.settle_revisions(true);
    if rollout.grow_new() || rollout.shrink_old() {
        return;
    }
    if rollout.was_complete() {
        rollout.remove_old_history();
    }
}

/// `strategy: Recreate`: nothing new before everything old has ended.
fn replace_at_once(rollout: &mut Rollout<'_>, all: &[Arc<Pod>]) {
    rollout.settle_revisions(false);
    if rollout.stop_old() {
        return;
    }
    let new = rollout.new_uid().map(str::to_owned);
    let old_runs = all.iter().any(|pod| {
        !pods::is_terminated(pod)
            && meta::controller_of(&pod.metadata)
                .is_some_and(|owner| rollout.owns(&owner.uid) && Some(&owner.uid) != new.as_ref())
    });
    if old_runs {
        return;
    }
    rollout.settle_revisions(true);
    if !rollout.grow_new() && rollout.was_complete() {
        rollout.remove_old_history();
    }
}

#[cfg(test)]
mod tests;
