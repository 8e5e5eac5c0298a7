//! Jobs: pods that run to their end, a number of times.
//!
//! Ends are counted exactly once although a pod and the Job are two objects (KEP-2307): a pod carries a finalizer, its UID
//! goes into `status.uncountedTerminatedPods`, the finalizer comes off, and only then the counter moves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods},
    core::v1::Pod,
};
use serde_json::json;

use crate::{
    Failure,
    action::{Action, DeleteOptions, Propagation, Target},
    claim::claim,
    meta, pods,
    replicaset::{BURST_PODS_MAX, count},
};

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// First pause after a failed pod; it doubles with each failure.
const BACKOFF_SECONDS_MIN: i64 = 10;
/// Longest pause after a failed pod.
const BACKOFF_SECONDS_MAX: i64 = 600;
/// `backoffLimit` of a Job that sets none.
const BACKOFF_LIMIT: i32 = 6;

/// What is seen of one Job.
#[derive(Debug)]
pub struct Observed {
    /// The Job.
    pub job: Arc<Job>,
    /// Pods of its namespace that it controls or that nobody does.
    pub pods: Vec<Arc<Pod>>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// The time.
    pub now: Timestamp,
}

/// The way a Job ends.
struct End {
    failed: bool,
    reason: &'static str,
    message: String,
}

/// Counts what ended, decides whether the Job has, and keeps as many pods running as are still needed.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let job = &*observed.job;
    let Some(spec) = &job.spec else { return Vec::new() };
    let Some(selector) = &spec.selector else { return Vec::new() };
    if spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
        return Vec::new();
    }
    let claimed = claim(job, selector, observed.pods.iter().cloned());
    let owned = claimed.owned;
    let mut actions = claimed.actions;
    if meta::is_deleting(job) {
        actions.extend(owned.iter().filter(|pod| meta::has_finalizer(&***pod, TRACKING)).map(untrack));
        return actions;
    }
    if ended(job).is_some() {
        actions.extend(owned.iter().filter(|pod| meta::has_finalizer(&***pod, TRACKING)).map(untrack));
        actions.extend(time_to_live(observed, spec));
        return actions;
    }
    let mut tally = Tally::of(job, spec, &owned);
    let end = tally.end(observed, spec);
    let suspended = spec.suspend == Some(true);
    let active: Vec<Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let status = tally.status(observed, end.as_ref(), suspended, &active);
    if job.status.as_ref() != Some(&status) {
        let mut copy = job.clone();
        copy.status = Some(status);
        actions.push(Action::update_status(&copy));
    }
    actions.extend(tally.to_untrack.iter().map(untrack));
    if end.is_some() || suspended {
        actions.extend(active.iter().map(|pod| Action::delete(&**pod)));
        return actions;
    }
    actions.extend(tally.run(observed, spec, &active, &owned));
    actions
}

/// When and how the Job ended, if it has.
#[must_use]
pub fn ended(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
}

/// Takes the finalizer off pods whose Job is gone, or was another of the same name: nobody will count them any more.
#[must_use]
pub fn release<'p>(job: Option<&Job>, pods: impl IntoIterator<Item = &'p Arc<Pod>>) -> Vec<Action> {
    let orphaned = |pod: &&Arc<Pod>| {
        let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job");
        let gone = owner.is_none_or(|owner| job.is_none_or(|job| owner.uid != meta::uid(job)));
        gone && meta::has_finalizer(&***pod, TRACKING)
    };
    pods.into_iter().filter(orphaned).map(untrack).collect()
}

fn untrack(pod: &Arc<Pod>) -> Action {
    let kept: Vec<_> = pod.metadata.finalizers.iter().flatten().filter(|have| *have != TRACKING).collect();
    Action::patch(&**pod, json!({ "metadata": { "finalizers": kept } }))
}

fn time_to_live(observed: &Observed, spec: &JobSpec) -> Option<Action> {
    let seconds = spec.ttl_seconds_after_finished?;
    let at = ended(&observed.job)?.last_transition_time.as_ref()?.0;
    let end = meta::after_seconds(at, i64::from(seconds));
    Some(match meta::until(observed.now, end) {
        Some(after) => Action::Wake { after },
        None => Action::Delete {
            target: Target::of(&*observed.job),
            options: DeleteOptions {
                uid: observed.job.metadata.uid.clone(),
                resource_version: observed.job.metadata.resource_version.clone(),
                propagation: Some(Propagation::Foreground),
                grace_period_seconds: None,
            },
        },
    })
}

fn index_of(pod: &Pod) -> Option<i32> {
    meta::annotation(pod, INDEX)?.parse().ok()
}

/// What has ended so far.
struct Tally {
    succeeded: i32,
    failed: i32,
    uncounted: UncountedTerminatedPods,
    completed: BTreeSet<i32>,
    to_untrack: Vec<Arc<Pod>>,
    indexed: bool,
    last_failure: Option<Timestamp>,
}

impl Tally {
    fn of(job: &Job, spec: &JobSpec, owned: &[Arc<Pod>]) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let noted = status.uncounted_terminated_pods.unwrap_or_default();
        let mut tally = Self {
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            uncounted: UncountedTerminatedPods::default(),
            completed: parse_indexes(status.completed_indexes.as_deref().unwrap_or_default()),
            to_untrack: Vec::new(),
            indexed,
            last_failure: None,
        };
        let tracked =
            |uid: &str| owned.iter().any(|pod| meta::uid(&**pod) == uid && meta::has_finalizer(&**pod, TRACKING));
        // Those whose finalizer is off are counted for good.
        let mut known: BTreeSet<String> = BTreeSet::new();
        for uid in noted.succeeded.into_iter().flatten() {
            if tracked(&uid) {
                tally.uncounted.succeeded.get_or_insert_default().push(uid.clone());
            } else if !indexed {
                tally.succeeded += 1;
            }
            known.insert(uid);
        }
        for uid in noted.failed.into_iter().flatten() {
            if tracked(&uid) {
                tally.uncounted.failed.get_or_insert_default().push(uid.clone());
            } else {
                tally.failed += 1;
            }
            known.insert(uid);
        }
        for pod in owned {
            tally.note(pod, &known);
        }
        if indexed {
            tally.succeeded = count(tally.completed.len());
        }
        tally
    }

    fn note(&mut self, pod: &Arc<Pod>, known: &BTreeSet<String>) {
        let succeeded = pods::phase(pod) == "Succeeded";
        // A deleted pod counts as failed once it has ended, and at once if it never had a node.
        let failed = pods::phase(pod) == "Failed" || (meta::is_deleting(&**pod) && pods::node_name(pod).is_empty());
        if failed {
            let at = pods::condition(pod, "Ready")
                .and_then(|ready| ready.last_transition_time.as_ref())
                .map_or(meta::created(&**pod), |time| time.0);
            self.last_failure = self.last_failure.max(Some(at));
        }
        if !(succeeded || failed) || !meta::has_finalizer(&**pod, TRACKING) {
            return;
        }
        self.to_untrack.push(Arc::clone(pod));
        let uid = meta::uid(&**pod).to_owned();
        if known.contains(&uid) {
            return;
        }
        let list = if succeeded { &mut self.uncounted.succeeded } else { &mut self.uncounted.failed };
        list.get_or_insert_default().push(uid);
        if succeeded {
            self.completed.extend(index_of(pod).filter(|_| self.indexed));
        }
    }

    fn uncounted_succeeded(&self) -> i32 {
        self.uncounted.succeeded.as_ref().map_or(0, |list| count(list.len()))
    }

    fn all_succeeded(&self) -> i32 {
        if self.indexed { self.succeeded } else { self.succeeded + self.uncounted_succeeded() }
    }

    fn all_failed(&self) -> i32 {
        self.failed + self.uncounted.failed.as_ref().map_or(0, |list| count(list.len()))
    }

    fn end(&self, observed: &Observed, spec: &JobSpec) -> Option<End> {
        let started = observed.job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        if let (Some(seconds), Some(started)) = (spec.active_deadline_seconds, started)
            && meta::after_seconds(started, seconds) <= observed.now
            && spec.suspend != Some(true)
        {
            let message = "Job was active longer than specified deadline".to_owned();
            return Some(End { failed: true, reason: "DeadlineExceeded", message });
        }
        if self.all_failed() > spec.backoff_limit.unwrap_or(BACKOFF_LIMIT) {
            let message = "Job has reached the specified backoff limit".to_owned();
            return Some(End { failed: true, reason: "BackoffLimitExceeded", message });
        }
        let done = match spec.completions {
            Some(wanted) => self.all_succeeded() >= wanted,
            // A work queue is done when one pod succeeded and no other runs.
            None => {
                self.all_succeeded() > 0
                    && !observed.pods.iter().any(|p| pods::is_active(p) && meta::is_controlled_by(&**p, &*observed.job))
            }
        };
        done.then(|| End {
            failed: false,
            reason: "CompletionsReached",
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    fn status(&mut self, observed: &Observed, end: Option<&End>, suspended: bool, active: &[Arc<Pod>]) -> JobStatus {
        let before = observed.job.status.clone().unwrap_or_default();
        let now = meta::wire_time(observed.now);
        let positive = |n: i32| Some(n).filter(|n| *n > 0);
        let mut conditions = before.conditions.unwrap_or_default();
        let mut set = |kind: &str, status: &str, reason: &str, message: &str| {
            if conditions.iter().any(|c| c.type_ == kind && c.status == status) {
                return;
            }
            conditions.retain(|c| c.type_ != kind);
            conditions.push(JobCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_probe_time: Some(now.clone()),
                last_transition_time: Some(now.clone()),
            });
        };
        let was_suspended = before.start_time.is_none();
        // The Job ends for good only when every end is counted and nothing runs.
        let settled = self.uncounted == UncountedTerminatedPods::default() && active.is_empty();
        let mut completion_time = before.completion_time;
        if let Some(end) = end {
            let (early, last) =
                if end.failed { ("FailureTarget", "Failed") } else { ("SuccessCriteriaMet", "Complete") };
            set(early, "True", end.reason, &end.message);
            if settled {
                set(last, "True", end.reason, &end.message);
                if !end.failed {
                    completion_time = completion_time.or(Some(now.clone()));
                }
            }
        } else if suspended {
            set("Suspended", "True", "JobSuspended", "Job suspended");
        } else if conditions.iter().any(|c| c.type_ == "Suspended") {
            conditions.retain(|c| c.type_ != "Suspended");
        }
        let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
        let start_time = if suspended {
            None
        } else if was_suspended {
            Some(now)
        } else {
            before.start_time
        };
        JobStatus {
            active: positive(count(active.len())),
            ready: Some(count(ready)),
            succeeded: positive(self.succeeded),
            failed: positive(self.failed),
            completed_indexes: self.indexed.then(|| write_indexes(&self.completed)).filter(|t| !t.is_empty()),
            conditions: Some(conditions).filter(|conditions| !conditions.is_empty()),
            completion_time,
            start_time,
            terminating: before.terminating.map(|_| {
                let going = observed.pods.iter().filter(|p| meta::is_deleting(&***p) && !pods::is_terminated(p));
                count(going.filter(|p| meta::is_controlled_by(&***p, &*observed.job)).count())
            }),
            uncounted_terminated_pods: Some(self.uncounted.clone()),
            ..before
        }
    }

    fn run(&self, observed: &Observed, spec: &JobSpec, active: &[Arc<Pod>], owned: &[Arc<Pod>]) -> Vec<Action> {
        let parallelism = spec.parallelism.unwrap_or(1);
        let remaining = match spec.completions {
            Some(wanted) => (wanted - self.all_succeeded()).max(0),
            None if self.all_succeeded() > 0 => count(active.len()),
            None => parallelism,
        };
        let want = usize::try_from(parallelism.min(remaining)).unwrap_or(0);
        let mut actions = Vec::new();
        if let (Some(seconds), Some(start)) =
            (spec.active_deadline_seconds, observed.job.status.as_ref().and_then(|status| status.start_time.as_ref()))
        {
            let left = meta::until(observed.now, meta::after_seconds(start.0, seconds));
            actions.extend(left.map(|after| Action::Wake { after }));
        }
        if active.len() > want {
            let mut surplus = active.to_vec();
            pods::rank_for_deletion(&mut surplus, observed.now, |_| 0);
            actions.extend(surplus[..active.len() - want].iter().map(|pod| Action::delete(&**pod)));
            return actions;
        }
        if active.len() == want {
            return actions;
        }
        if let Some(after) = self.pause(observed) {
            actions.push(Action::Wake { after });
            return actions;
        }
        let missing = (want - active.len()).min(BURST_PODS_MAX);
        if self.indexed {
            // A pod that is going still has its index.
            let taken: BTreeSet<i32> =
                owned.iter().filter(|pod| !pods::is_terminated(pod)).filter_map(|pod| index_of(pod)).collect();
            let free = (0..spec.completions.unwrap_or(0))
                .filter(|index| !self.completed.contains(index) && !taken.contains(index));
            actions.extend(free.take(missing).map(|index| make(observed, spec, Some(index))));
        } else {
            actions.extend((0..missing).map(|_| make(observed, spec, None)));
        }
        actions
    }

    /// What is left of the pause after the last failure.
    fn pause(&self, observed: &Observed) -> Option<Duration> {
        let failures = u32::try_from(self.all_failed()).ok().filter(|failures| *failures > 0)?;
        let seconds = BACKOFF_SECONDS_MIN
            .saturating_mul(1_i64.checked_shl(failures - 1).unwrap_or(i64::MAX))
            .min(BACKOFF_SECONDS_MAX);
        meta::until(observed.now, meta::after_seconds(self.last_failure?, seconds))
    }
}

fn make(observed: &Observed, spec: &JobSpec, index: Option<i32>) -> Action {
    let job = &*observed.job;
    let mut pod = pods::from_template(&spec.template, job);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(index) = index {
        pod.metadata.generate_name = Some(format!("{}-{index}-", meta::name(job)));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX.to_owned(), index.to_string());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(INDEX.to_owned(), index.to_string());
        let body = pod.spec.get_or_insert_default();
        body.hostname = Some(format!("{}-{index}", meta::name(job)));
        let variable = k8s_openapi::api::core::v1::EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value: Some(index.to_string()),
            value_from: None,
        };
        let containers = body.containers.iter_mut().chain(body.init_containers.iter_mut().flatten());
        for container in containers {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|have| have.name == variable.name) {
                env.push(variable.clone());
            }
        }
    }
    Action::create(&pod)
}

/// Reads `0,2-4`.
fn parse_indexes(text: &str) -> BTreeSet<i32> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<i32>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

/// Writes `0,2-4`; neighbours of two are written apart, as upstream does.
fn write_indexes(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = runs.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_lists_are_read_and_written_alike() {
        for text in ["", "0", "0,2-4,7", "1,2,5-9"] {
            assert_eq!(write_indexes(&parse_indexes(text)), text);
        }
    }

    /// Runs a Job against a list of pods in which everything started ends as `phases` say, in turn.
    fn run(spec: serde_json::Value, phases: &[&str]) -> (Job, usize) {
        let mut body = json!({
            "metadata": { "name": "j", "namespace": "a", "uid": "j" },
            "spec": { "selector": { "matchLabels": { "job": "j" } },
                "template": { "metadata": { "labels": { "job": "j" } }, "spec": { "containers": [] } } },
        });
        for (key, value) in spec.as_object().unwrap() {
            body["spec"][key] = value.clone();
        }
        let mut job: Job = serde_json::from_value(body).unwrap();
        let mut pods: Vec<Pod> = Vec::new();
        let (mut made, mut phases) = (0, phases.iter());
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for _ in 0..60 {
            now = meta::after_seconds(now, 600);
            let observed = Observed {
                job: Arc::new(job.clone()),
                pods: pods.iter().cloned().map(Arc::new).collect(),
                failure: None,
                now,
            };
            for action in reconcile(&observed) {
                match action {
                    Action::Create { body, .. } => {
                        made += 1;
                        let mut pod: Pod = serde_json::from_value(body).unwrap();
                        pod.metadata.name = Some(format!("p{made}"));
                        pod.metadata.uid = Some(format!("p{made}"));
                        pods.push(pod);
                    }
                    Action::Update { body, .. } => {
                        job.status = serde_json::from_value::<Job>(body).unwrap().status;
                    }
                    Action::Patch { target, .. } => {
                        let name = Some(target.name);
                        let pod = pods.iter_mut().find(|pod| pod.metadata.name == name).unwrap();
                        pod.metadata.finalizers = None;
                    }
                    Action::Delete { target, .. } => {
                        pods.retain(|pod| pod.metadata.name.as_ref() != Some(&target.name));
                    }
                    _ => {}
                }
            }
            if let Some(pod) = pods.iter_mut().find(|pod| !pods::is_terminated(pod))
                && let Some(phase) = phases.next()
            {
                pod.status = Some(serde_json::from_value(json!({ "phase": phase })).unwrap());
            }
        }
        (job, made)
    }

    #[test]
    fn completions_are_counted_once_and_end_the_job() {
        let (job, made) = run(json!({ "completions": 3, "parallelism": 2 }), &["Succeeded"; 9]);
        assert_eq!(made, 3);
        let status = job.status.clone().unwrap();
        assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
        assert_eq!(ended(&job).unwrap().type_, "Complete");
        assert!(status.completion_time.is_some());
    }

    #[test]
    fn failures_are_tried_again_up_to_the_limit() {
        let spec = json!({ "completions": 1, "parallelism": 1, "backoffLimit": 2 });
        let (job, made) = run(spec.clone(), &["Failed", "Failed", "Succeeded"]);
        assert_eq!((made, ended(&job).unwrap().type_.as_str()), (3, "Complete"));
        let (job, made) = run(spec, &["Failed"; 9]);
        assert_eq!((made, ended(&job).unwrap().reason.as_deref()), (3, Some("BackoffLimitExceeded")));
    }

    #[test]
    fn every_index_runs_once() {
        let spec = json!({ "completions": 4, "parallelism": 2, "completionMode": "Indexed" });
        let (job, made) = run(spec, &["Succeeded"; 9]);
        assert_eq!(made, 4);
        assert_eq!(job.status.unwrap().completed_indexes.as_deref(), Some("0-3"));
    }
}
