//! StatefulSets: pods with names that stay, made and replaced in order.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
};

use crate::{
    Failure,
    action::Action,
    claim::claim,
    meta,
    pods::{self, Availability},
    selector,
    set_revision::{self, REVISION_LABEL},
};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// What is seen of one StatefulSet.
#[derive(Debug)]
pub struct Observed {
    /// The StatefulSet.
    pub set: Arc<StatefulSet>,
    /// Pods of its namespace that it controls or that nobody does.
    pub pods: Vec<Arc<Pod>>,
    /// Names of the PersistentVolumeClaims in its namespace.
    pub volume_claims: std::collections::BTreeSet<String>,
    /// Its ControllerRevisions.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

struct Plan<'a> {
    observed: &'a Observed,
    spec: &'a StatefulSetSpec,
    /// Pods by ordinal.
    pods: BTreeMap<i32, Arc<Pod>>,
    start: i32,
    end: i32,
    /// Revision new pods below the partition are made from.
    current: String,
    /// Revision of the present template.
    update: String,
}

/// One step: the first thing that must happen before anything else may; with parallel management, all at once.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let set = &*observed.set;
    let Some(spec) = set.spec.as_ref().filter(|spec| !selector::is_empty(&spec.selector)) else {
        return Vec::new();
    };
    if meta::is_deleting(set) {
        return Vec::new();
    }
    let ours = observed.pods.iter().filter(|pod| ordinal(set, pod).is_some()).cloned();
    let claimed = claim(set, &spec.selector, ours);
    let mut actions = claimed.actions;
    let present = set.status.as_ref().and_then(|status| status.current_revision.clone());
    let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let limit = spec.revision_history_limit.unwrap_or(10);
    let revisions = set_revision::settle(set, &spec.template, labels, &observed.revisions, limit, |revision| {
        let name = Some(meta::name(revision));
        name == present.as_deref() || claimed.owned.iter().any(|pod| meta::label(&**pod, REVISION_LABEL) == name)
    });
    actions.extend(revisions.actions);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let plan = Plan {
        observed,
        spec,
        pods: claimed.owned.into_iter().filter_map(|pod| Some((ordinal(set, &pod)?, pod))).collect(),
        start,
        end: start + spec.replicas.unwrap_or(1),
        current: present.unwrap_or_else(|| revisions.name.clone()),
        update: revisions.name,
    };
    let (status, wake) = plan.status();
    if Some(&status) != set.status.as_ref() {
        let mut copy = set.clone();
        copy.status = Some(status);
        actions.push(Action::update_status(&copy));
    }
    actions.extend(plan.steps());
    actions.extend(wake.and_then(|at| Some(Action::Wake { after: meta::until(observed.now, at)? })));
    actions
}

fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = meta::name(pod).strip_prefix(meta::name(set))?.strip_prefix('-')?;
    rest.parse().ok().filter(|ordinal: &i32| *ordinal >= 0 && rest == ordinal.to_string())
}

impl Plan<'_> {
    fn is_parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn availability(&self, pod: &Pod) -> Availability {
        pods::availability(pod, self.spec.min_ready_seconds.unwrap_or(0), self.observed.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        !meta::is_deleting(pod) && pods::phase(pod) == "Running" && self.availability(pod) == Availability::Available
    }

    fn partition(&self) -> i32 {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|s| s.rolling_update.as_ref()?.partition).unwrap_or(0)
    }

    fn steps(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        // Missing and ended pods, lowest first.
        for ordinal in self.start..self.end {
            let waits = match self.pods.get(&ordinal) {
                None => {
                    actions.extend(self.make(ordinal));
                    true
                }
                Some(pod) if pods::is_terminated(pod) && !meta::is_deleting(&**pod) => {
                    actions.push(Action::delete(&**pod));
                    true
                }
                Some(pod) => !self.is_healthy(pod),
            };
            if waits && !self.is_parallel() {
                // A pod of an old template that never becomes healthy must not hold up its own replacement
                // (upstream's known deadlock, kubernetes#67250, is kept out by looking at it here).
                actions.extend(self.replace_stuck(ordinal));
                return actions;
            }
        }
        // Pods beyond the size, highest first.
        let mut surplus: Vec<_> =
            self.pods.iter().filter(|(ordinal, _)| **ordinal < self.start || **ordinal >= self.end).collect();
        surplus.reverse();
        for (_, pod) in surplus {
            if !meta::is_deleting(&**pod) {
                actions.push(Action::delete(&**pod));
            }
            if !self.is_parallel() {
                return actions;
            }
        }
        if actions.is_empty() {
            actions.extend(self.roll());
        }
        actions
    }

    fn is_old(&self, ordinal: i32, pod: &Pod) -> bool {
        ordinal >= self.partition().max(self.start) && meta::label(pod, REVISION_LABEL) != Some(&self.update)
    }

    fn rolls(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy != Some("OnDelete")
    }

    fn replace_stuck(&self, ordinal: i32) -> Option<Action> {
        let pod = self.pods.get(&ordinal)?;
        let stuck = self.rolls()
            && self.is_old(ordinal, pod)
            && !pods::is_ready(pod)
            && !pods::is_terminated(pod)
            && !meta::is_deleting(&**pod)
            && self.pods.range(ordinal + 1..self.end).next().is_none();
        stuck.then(|| Action::delete(&**pod))
    }

    /// Replaces the highest pod of an old template, once all above it serve.
    fn roll(&self) -> Option<Action> {
        if !self.rolls() {
            return None;
        }
        for (ordinal, pod) in self.pods.range(self.start..self.end).rev() {
            if self.is_old(*ordinal, pod) && !meta::is_deleting(&**pod) {
                return Some(Action::delete(&**pod));
            }
            if !self.is_healthy(pod) {
                return None;
            }
        }
        None
    }

    /// The template of a revision, when that is not the present one and still known.
    fn template(&self, revision: &str) -> Option<PodTemplateSpec> {
        let known = self.observed.revisions.iter().find(|known| meta::name(&***known) == revision)?;
        let template = known.data.as_ref()?.0["spec"]["template"].clone();
        serde_json::from_value(template).ok()
    }

    fn make(&self, ordinal: i32) -> Vec<Action> {
        let set = &*self.observed.set;
        let old = ordinal < self.partition() && self.current != self.update && self.rolls();
        let (revision, template) = match self.template(&self.current).filter(|_| old) {
            Some(template) => (&self.current, template),
            None => (&self.update, self.spec.template.clone()),
        };
        let name = format!("{}-{ordinal}", meta::name(set));
        let mut pod = pods::from_template(&template, set);
        pod.metadata.generate_name = None;
        pod.metadata.name = Some(name.clone());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION_LABEL.to_owned(), revision.clone());
        labels.insert(POD_NAME_LABEL.to_owned(), name.clone());
        labels.insert(POD_INDEX_LABEL.to_owned(), ordinal.to_string());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name.clone());
        spec.subdomain = self.spec.service_name.clone().filter(|service| !service.is_empty());
        let mut actions = Vec::new();
        for template in self.spec.volume_claim_templates.iter().flatten() {
            let volume = meta::name(template).to_owned();
            let wanted = format!("{volume}-{name}");
            if !self.observed.volume_claims.contains(&wanted) {
                actions.push(Action::create(&self.volume_claim(template, &wanted)));
            }
            let volumes = spec.volumes.get_or_insert_default();
            volumes.retain(|have| have.name != volume);
            volumes.push(Volume {
                name: volume,
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: wanted,
                    read_only: Some(false),
                }),
                ..Volume::default()
            });
        }
        actions.push(Action::create(&pod));
        actions
    }

    fn volume_claim(&self, template: &PersistentVolumeClaim, name: &str) -> PersistentVolumeClaim {
        let mut claim = template.clone();
        claim.status = None;
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.namespace = self.observed.set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(self.spec.selector.match_labels.clone().into_iter().flatten());
        claim
    }

    fn status(&self) -> (StatefulSetStatus, Option<Timestamp>) {
        let before = self.observed.set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            observed_generation: self.observed.set.metadata.generation,
            collision_count: before.collision_count,
            conditions: before.conditions,
            update_revision: Some(self.update.clone()),
            ..StatefulSetStatus::default()
        };
        let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
        let mut wake: Option<Timestamp> = None;
        for pod in self.pods.values().filter(|pod| !pods::is_terminated(pod)) {
            status.replicas += 1;
            if meta::is_deleting(&**pod) {
                continue;
            }
            let revision = meta::label(&**pod, REVISION_LABEL);
            current += i32::from(revision == Some(&self.current));
            updated += i32::from(revision == Some(&self.update));
            ready += i32::from(pods::is_ready(pod));
            match self.availability(pod) {
                Availability::Available => available += 1,
                Availability::At(at) => wake = Some(wake.map_or(at, |earlier| earlier.min(at))),
                Availability::NotReady => {}
            }
        }
        let complete = self.rolls()
            && self.current != self.update
            && updated == status.replicas
            && ready == status.replicas
            && status.replicas == self.end - self.start;
        if complete {
            current = updated;
        }
        let revision = if complete { &self.update } else { &self.current };
        status.current_revision = Some(revision.clone());
        let positive = |n: i32| Some(n).filter(|n| *n > 0);
        status.ready_replicas = positive(ready);
        status.current_replicas = positive(current);
        status.updated_replicas = positive(updated);
        // The field is required of a complete status, so zero is written too.
        status.available_replicas = Some(available);
        (status, wake)
    }
}
