use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::json;

use super::{
    Observed,
    revision::{self, DESIRED_REPLICAS, REVISION},
    status,
};
use crate::{
    action::{Action, DeleteOptions, Propagation, Target},
    meta,
    replicaset::Replicating,
};

/// A ReplicaSet as cached and as this step leaves it.
pub(super) struct Member {
    before: Option<Arc<ReplicaSet>>,
    pub(super) set: ReplicaSet,
}

impl Member {
    pub(super) fn size(&self) -> i32 {
        self.set.replicas()
    }

    /// Available pods that stay: a status older than the last scaling down counts pods that are about to go.
    pub(super) fn available(&self) -> i32 {
        let counted = self.set.status.as_ref().and_then(|status| status.available_replicas);
        counted.unwrap_or(0).min(self.size())
    }
}

/// The working copy of a Deployment and its ReplicaSets during one step.
pub(super) struct Rollout<'a> {
    pub(super) observed: &'a Observed,
    pub(super) spec: &'a DeploymentSpec,
    /// All ReplicaSets, oldest first.
    pub(super) members: Vec<Member>,
    /// Position of the one with the present template.
    pub(super) new: Option<usize>,
    pub(super) conditions: status::Conditions,
    pub(super) actions: Vec<Action>,
    /// What the step does to users' eyes, after the writes that do it.
    events: Vec<Action>,
    removals: Vec<Action>,
    revision: Option<i64>,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(observed: &'a Observed, spec: &'a DeploymentSpec, owned: &[Arc<ReplicaSet>]) -> Self {
        let mut members: Vec<Member> =
            owned.iter().map(|set| Member { before: Some(Arc::clone(set)), set: (**set).clone() }).collect();
        members.sort_by_key(|member| (meta::created(&member.set), meta::name(&member.set).to_owned()));
        let sets: Vec<ReplicaSet> = members.iter().map(|member| member.set.clone()).collect();
        Self {
            new: revision::find_new(&observed.deployment, &sets),
            conditions: status::Conditions::of(&observed.deployment, observed.now),
            observed,
            spec,
            members,
            actions: Vec::new(),
            events: Vec::new(),
            removals: Vec::new(),
            revision: None,
        }
    }

    pub(super) fn deployment(&self) -> &'a Deployment {
        &self.observed.deployment
    }

    pub(super) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn is_rolling(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
    }

    /// Pods allowed above and missing below the wanted number. A rollout that may do neither would stand still, so one
    /// may then be missing.
    fn bounds(&self) -> (i32, i32) {
        if !self.is_rolling() {
            return (0, 0);
        }
        let rolling = self.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let resolve = |value: Option<&IntOrString>, up| resolve_percent(value.unwrap_or(&quarter), self.replicas(), up);
        let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), true);
        let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    pub(super) fn max_surge(&self) -> i32 {
        self.bounds().0
    }

    pub(super) fn max_unavailable(&self) -> i32 {
        self.bounds().1.min(self.replicas())
    }

    pub(super) fn new_member(&self) -> Option<&Member> {
        self.new.map(|index| &self.members[index])
    }

    pub(super) fn new_uid(&self) -> Option<&str> {
        self.new_member().map(|member| meta::uid(&member.set))
    }

    pub(super) fn owns(&self, uid: &str) -> bool {
        self.members.iter().any(|member| meta::uid(&member.set) == uid)
    }

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.members.len()).filter(move |index| Some(*index) != new)
    }

    fn total(&self) -> i32 {
        self.members.iter().map(Member::size).sum()
    }

    /// Whether the number of replicas changed since a ReplicaSet in use was last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        self.members.iter().filter(|member| member.size() > 0).any(|member| {
            revision::size_annotation(&member.set, DESIRED_REPLICAS).is_some_and(|desired| desired != self.replicas())
        })
    }

    /// Finds or creates the ReplicaSet of the present template and numbers it after all others.
    pub(super) fn settle_revisions(&mut self, create: bool) {
        let deployment = self.deployment();
        let newest_old = self.old().map(|index| revision::revision_of(&self.members[index].set)).max();
        let next = newest_old.unwrap_or(0) + 1;
        if let Some(index) = self.new {
            let set = &mut self.members[index].set;
            revision::annotate(deployment, set, next);
            if let Some(spec) = &mut set.spec {
                spec.min_ready_seconds = self.spec.min_ready_seconds.or(spec.min_ready_seconds);
            }
            self.revision = Some(revision::revision_of(&self.members[index].set));
            self.conditions.found_new(self.spec, meta::name(&self.members[index].set));
            return;
        }
        if !create {
            return;
        }
        let size = self.new_size(0);
        let mut set = revision::new_set(deployment, size);
        revision::annotate(deployment, &mut set, next);
        revision::annotate_size(&mut set, self.replicas(), self.replicas() + self.max_surge());
        match &self.observed.failure {
            None => self.conditions.created_new(self.spec, meta::name(&set)),
            Some(failure) => self.conditions.not_created(self.spec, &failure.message),
        }
        if size > 0 {
            self.announce(&set, 0, size);
        }
        self.revision = Some(next);
        self.new = Some(self.members.len());
        self.members.push(Member { before: None, set });
    }

    /// How many pods the new ReplicaSet, now at `size`, may have without exceeding the surge.
    fn new_size(&self, size: i32) -> i32 {
        if !self.is_rolling() {
            return self.replicas();
        }
        let room = self.replicas() + self.max_surge() - self.total();
        if room <= 0 { size } else { size + room.min(self.replicas() - size) }
    }

    /// Lets the new ReplicaSet grow into the surge. Returns whether it was scaled in this step.
    pub(super) fn grow_new(&mut self) -> bool {
        let Some(index) = self.new else { return false };
        if self.members[index].before.is_none() {
            return true;
        }
        let size = self.members[index].size();
        match size.cmp(&self.replicas()) {
            std::cmp::Ordering::Equal => false,
            std::cmp::Ordering::Greater => self.scale(index, self.replicas()),
            std::cmp::Ordering::Less => self.scale(index, self.new_size(size)),
        }
    }

    /// Shrinks old ReplicaSets as far as availability allows, unhealthy pods first. Returns whether it did.
    pub(super) fn shrink_old(&mut self) -> bool {
        let Some(new) = self.new_member() else { return false };
        let new_unavailable = new.size() - new.available();
        let least = self.replicas() - self.max_unavailable();
        let mut budget = self.total() - least - new_unavailable;
        if budget <= 0 {
            return false;
        }
        let mut scaled = false;
        for index in self.old() {
            let member = &self.members[index];
            let unhealthy = member.size() - member.available();
            let less = unhealthy.min(budget);
            if member.size() > 0 && less > 0 {
                budget -= less;
                scaled |= self.scale(index, member.size() - less);
            }
        }
        let available: i32 = self.members.iter().map(Member::available).sum();
        let mut spare = available - least;
        for index in self.old() {
            let size = self.members[index].size();
            let less = size.min(spare);
            if less > 0 {
                spare -= less;
                scaled |= self.scale(index, size - less);
            }
        }
        scaled
    }

    /// Scales every old ReplicaSet to nothing. Returns whether any had pods.
    pub(super) fn stop_old(&mut self) -> bool {
        let mut scaled = false;
        for index in self.old() {
            if self.members[index].size() > 0 {
                scaled |= self.scale(index, 0);
            }
        }
        scaled
    }

    /// Sets a ReplicaSet's size. Returns whether that is a change.
    pub(super) fn scale(&mut self, index: usize, size: i32) -> bool {
        let (desired, most) = (self.replicas(), self.replicas() + self.max_surge());
        let member = &mut self.members[index];
        let from = member.size();
        revision::annotate_size(&mut member.set, desired, most);
        if from == size {
            return false;
        }
        if let Some(spec) = &mut member.set.spec {
            spec.replicas = Some(size);
        }
        let set = member.set.clone();
        self.announce(&set, from, size);
        true
    }

    fn announce(&mut self, set: &ReplicaSet, from: i32, to: i32) {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {from} to {to}", meta::name(set));
        self.events.push(Action::event(self.deployment(), false, "ScalingReplicaSet", message));
    }

    pub(super) fn was_complete(&self) -> bool {
        let status = self.deployment().status.clone().unwrap_or_default();
        status::is_complete(self.deployment(), &status)
    }

    /// Deletes the oldest unused ReplicaSets beyond `revisionHistoryLimit`.
    pub(super) fn remove_old_history(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit < i32::MAX) else {
            return;
        };
        let mut old: Vec<&ReplicaSet> =
            self.old().map(|index| &self.members[index].set).filter(|set| !meta::is_deleting(*set)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| revision::revision_of(*set));
        for set in old.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let unseen = set.metadata.generation > status.observed_generation;
            if status.replicas == 0 && set.replicas() == 0 && !unseen {
                self.removals.push(Action::Delete {
                    target: Target::of(set),
                    options: DeleteOptions {
                        uid: set.metadata.uid.clone(),
                        resource_version: set.metadata.resource_version.clone(),
                        propagation: Some(Propagation::Background),
                        ..DeleteOptions::default()
                    },
                });
            }
        }
    }

    /// Ends a step of a rollout: judges progress too.
    pub(super) fn finish(mut self) -> Vec<Action> {
        let status = status::counts(&self);
        let wake = self.conditions.judge_progress(
            self.deployment(),
            self.spec,
            &status,
            self.new_member().map(|member| meta::name(&member.set).to_owned()),
        );
        self.conditions.pass_on_failure(self.members.iter().map(|member| &member.set));
        let mut actions = self.close(status);
        actions.extend(wake.map(|after| Action::Wake { after }));
        actions
    }

    /// Ends a step outside a rollout: deleted, paused or being scaled.
    pub(super) fn finish_with_counts_only(self) -> Vec<Action> {
        let status = status::counts(&self);
        self.close(status)
    }

    fn close(mut self, status: k8s_openapi::api::apps::v1::DeploymentStatus) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.actions);
        let deployment = self.deployment();
        let deleting: BTreeSet<String> = self
            .members
            .iter()
            .filter(|member| meta::is_deleting(&member.set))
            .map(|member| meta::name(&member.set).to_owned())
            .collect();
        for member in &self.members {
            match &member.before {
                None => actions.push(Action::create(&member.set)),
                Some(before) if **before != member.set => {
                    if !deleting.contains(meta::name(&member.set)) {
                        actions.push(Action::update(&member.set));
                    }
                }
                Some(_) => {}
            }
        }
        if let Some(revision) = self.revision
            && revision::revision_of(deployment) != revision
        {
            actions.push(Action::patch(
                deployment,
                json!({ "metadata": { "annotations": { REVISION: revision.to_string() } } }),
            ));
        }
        actions.append(&mut self.events);
        actions.append(&mut self.removals);
        let status = self.conditions.put_into(status);
        if Some(&status) != deployment.status.as_ref() {
            actions.push(status::write(deployment, &status));
        }
        actions
    }

    pub(super) fn note_pause(&mut self) {
        self.conditions.note_pause(self.spec);
    }
}

/// Resolves a number or a percentage of `total`.
pub(crate) fn resolve_percent(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or(0);
            let product = i64::from(total) * percent;
            let whole = if up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}
