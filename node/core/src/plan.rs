//! What to do next for one pod: `plan(desired, actual, knowledge) -> actions`.
//!
//! A plan holds only what can be done now, in order; after it is done the pod is observed again and planned again. The
//! same function serves a new pod, a running one, an agent that restarted, and a pod on its way out, so there is one
//! path through all of them (after `computePodActions` in `pkg/kubelet/kuberuntime`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::{
    actual::{Actual, Container, Sandbox, State},
    backoff::Backoff,
    labels::container_hash,
    pod::{self, RestartPolicy},
    probe::Kind,
};

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its object is being deleted, or gone.
    Deleted,
    /// It ran longer than `activeDeadlineSeconds`.
    Deadline,
    /// Its containers have done what they had to, or failed for good.
    Finished,
}

/// Where a pod is headed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It shall run.
    Run,
    /// It shall end, with this grace.
    Terminate {
        /// Why.
        cause: Cause,
        /// Seconds each container gets between the polite signal and the other one.
        grace_seconds: i64,
    },
}

/// What is wanted of the pod, and when it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Desired<'a> {
    /// The pod, static or from the API server.
    pub pod: &'a Pod,
    /// Where it is headed; see [`intent`].
    pub intent: Intent,
    /// The time.
    pub now: Timestamp,
}

/// What the agent knows of a pod beyond the runtime's answer. It may be lost: a restarted agent begins with an empty one.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// Restart back-off, by container name.
    pub backoff: Backoff,
    /// Why a container could not be started, by name: `(reason, message)`, such as `ErrImagePull`.
    pub waiting: BTreeMap<String, (String, String)>,
    /// Verdicts of probes, by container id and kind.
    pub verdicts: BTreeMap<(String, Kind), bool>,
}

impl Knowledge {
    /// Whether the container counts as started: its startup probe held, or it has none.
    pub fn started(&self, spec: &Spec, id: &str) -> bool {
        spec.startup_probe.is_none() || self.verdict(id, Kind::Startup) == Some(true)
    }

    /// Whether the container counts as ready.
    pub fn ready(&self, spec: &Spec, id: &str) -> bool {
        self.started(spec, id) && (spec.readiness_probe.is_none() || self.verdict(id, Kind::Readiness) == Some(true))
    }

    fn verdict(&self, id: &str, kind: Kind) -> Option<bool> {
        self.verdicts.get(&(id.to_owned(), kind)).copied()
    }

    fn accused(&self, id: &str) -> Option<Kind> {
        [Kind::Liveness, Kind::Startup].into_iter().find(|kind| self.verdict(id, *kind) == Some(false))
    }
}

/// Why a container is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillReason {
    /// The pod ends.
    PodEnds,
    /// Its sandbox is gone or stale.
    SandboxGone,
    /// A probe asks for it.
    Probe(Kind),
    /// Its specification changed.
    SpecChanged,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a sandbox.
    CreateSandbox {
        /// Its attempt number.
        attempt: u32,
    },
    /// Take a sandbox's processes and network down.
    StopSandbox {
        /// Which.
        id: String,
    },
    /// Forget a stopped sandbox.
    RemoveSandbox {
        /// Which.
        id: String,
    },
    /// Pull the image, make the container and start it.
    StartContainer {
        /// Name in the pod.
        name: String,
        /// How often it was started before.
        restart_count: u32,
        /// Whether this counts as a restart for back-off.
        after_failure: bool,
    },
    /// Run preStop, then stop the container. Kills of one plan run side by side.
    KillContainer {
        /// Which.
        id: String,
        /// Name in the pod.
        name: String,
        /// Seconds of grace.
        grace_seconds: i64,
        /// Why.
        reason: KillReason,
    },
    /// Forget a dead container.
    RemoveContainer {
        /// Which.
        id: String,
    },
    /// Nothing of the pod is left in the runtime: write the last status, take volumes away, let the object go.
    Finish,
    /// Plan again at this time at the latest.
    WakeAt(Timestamp),
}

/// Dead containers of one name that are kept, the newest excepted (upstream's `MaxPerPodContainer`).
const DEAD_KEPT: usize = 1;
/// Least grace a kill gets for a container that a probe accuses or that lost its sandbox.
const GRACE_MIN_SECONDS: i64 = 0;

/// Where the pod is headed. Terminal phases never come back (`pkg/kubelet/status`).
pub fn intent(pod: &Pod, actual: &Actual, now: Timestamp) -> Intent {
    let grace = pod::grace_seconds(pod);
    if pod.metadata.deletion_timestamp.is_some() {
        let grace_seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(grace);
        return Intent::Terminate { cause: Cause::Deleted, grace_seconds };
    }
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    if matches!(pod::phase(pod), "Succeeded" | "Failed") {
        let cause = if reason == Some("DeadlineExceeded") { Cause::Deadline } else { Cause::Finished };
        return Intent::Terminate { cause, grace_seconds: grace };
    }
    if deadline(pod).is_some_and(|deadline| now >= deadline) {
        return Intent::Terminate { cause: Cause::Deadline, grace_seconds: grace };
    }
    if is_finished(pod, actual) {
        return Intent::Terminate { cause: Cause::Finished, grace_seconds: grace };
    }
    Intent::Run
}

/// When `activeDeadlineSeconds` runs out.
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod::spec(pod).active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?;
    start.0.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether every container has ended for good, or an init container has failed for good.
fn is_finished(pod: &Pod, actual: &Actual) -> bool {
    let ended = |spec: &Spec| {
        actual.newest(&spec.name).filter(|container| container.state == State::Exited).map(|found| found.exit_code)
    };
    let init_failed = pod::init_containers(pod).iter().filter(|spec| !pod::is_sidecar(spec)).any(|spec| {
        ended(spec).is_some_and(|code| code != 0 && pod::container_restart_policy(pod, spec) == RestartPolicy::Never)
    });
    let spec = pod::spec(pod);
    let all_ended = !spec.containers.is_empty()
        && spec
            .containers
            .iter()
            .all(|spec| ended(spec).is_some_and(|code| !pod::container_restart_policy(pod, spec).restarts(code)));
    init_failed || all_ended
}

/// What to do next; empty when the pod is as desired.
pub fn plan(desired: &Desired<'_>, actual: &Actual, knowledge: &Knowledge) -> Vec<Action> {
    match desired.intent {
        Intent::Terminate { grace_seconds, cause } => terminate(desired.pod, actual, grace_seconds, cause),
        Intent::Run => {
            let Some(sandbox) = usable_sandbox(desired.pod, actual) else {
                return renew_sandbox(actual);
            };
            let mut actions = Run { desired, actual, knowledge, sandbox, actions: Vec::new() }.plan();
            if let Some(deadline) = deadline(desired.pod) {
                actions.push(Action::WakeAt(deadline));
            }
            actions
        }
    }
}

fn usable_sandbox<'a>(pod: &Pod, actual: &'a Actual) -> Option<&'a Sandbox> {
    actual.sandbox().filter(|sandbox| pod::host_network(pod) || !sandbox.ips.is_empty())
}

fn renew_sandbox(actual: &Actual) -> Vec<Action> {
    let mut actions: Vec<Action> =
        actual.alive().map(|container| kill(container, GRACE_MIN_SECONDS, KillReason::SandboxGone)).collect();
    let standing = actual.sandboxes.iter().filter(|sandbox| sandbox.ready);
    actions.extend(standing.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }));
    let attempt = actual.sandboxes.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
    actions.push(Action::CreateSandbox { attempt });
    actions
}

/// Ends a pod: main containers, then sidecars, then the sandbox, last of all the records.
fn terminate(pod: &Pod, actual: &Actual, grace_seconds: i64, cause: Cause) -> Vec<Action> {
    let is_sidecar = |container: &&Container| pod::container(pod, &container.name).is_some_and(pod::is_sidecar);
    let (sidecars, others): (Vec<_>, Vec<_>) = actual.alive().partition(is_sidecar);
    let first = if others.is_empty() { sidecars } else { others };
    if !first.is_empty() {
        return first.into_iter().map(|container| kill(container, grace_seconds, KillReason::PodEnds)).collect();
    }
    let standing: Vec<_> = actual
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.ready)
        .map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() })
        .collect();
    if !standing.is_empty() {
        return standing;
    }
    // The containers of a pod that ended by itself stay, for `kubectl logs`, until its object goes.
    let mut actions = vec![Action::Finish];
    if cause == Cause::Deleted {
        actions.extend(actual.containers.iter().map(|found| Action::RemoveContainer { id: found.id.clone() }));
        actions.extend(actual.sandboxes.iter().map(|found| Action::RemoveSandbox { id: found.id.clone() }));
    }
    actions
}

fn kill(container: &Container, grace_seconds: i64, reason: KillReason) -> Action {
    Action::KillContainer { id: container.id.clone(), name: container.name.clone(), grace_seconds, reason }
}

/// Whether the walk over containers may go on to the next one.
#[derive(PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

struct Run<'a> {
    desired: &'a Desired<'a>,
    actual: &'a Actual,
    knowledge: &'a Knowledge,
    sandbox: &'a Sandbox,
    actions: Vec<Action>,
}

impl Run<'_> {
    fn plan(mut self) -> Vec<Action> {
        let pod = self.desired.pod;
        let spec = pod::spec(pod);
        // A main container in this sandbox means that initialization was over, whatever was collected since.
        let initialized = spec.containers.iter().any(|main| self.current(&main.name).is_some());
        let mut gate = Gate::Open;
        for init in pod::init_containers(pod) {
            gate = if pod::is_sidecar(init) {
                self.sidecar(init)
            } else if initialized {
                Gate::Open
            } else {
                self.init(init)
            };
            if gate == Gate::Closed && !initialized {
                break;
            }
        }
        if gate == Gate::Open || initialized {
            for main in &spec.containers {
                self.keep_running(main);
            }
        }
        self.collect_garbage();
        self.actions
    }

    fn current(&self, name: &str) -> Option<&Container> {
        self.actual.newest_in(name, &self.sandbox.id)
    }

    fn init(&mut self, spec: &Spec) -> Gate {
        match self.current(&spec.name).map(|found| (found.state, found.exit_code)) {
            Some((State::Exited, 0)) => Gate::Open,
            _ => {
                self.keep_running(spec);
                Gate::Closed
            }
        }
    }

    fn sidecar(&mut self, spec: &Spec) -> Gate {
        self.keep_running(spec);
        let started = self
            .current(&spec.name)
            .is_some_and(|found| found.state == State::Running && self.knowledge.started(spec, &found.id));
        if started { Gate::Open } else { Gate::Closed }
    }

    fn keep_running(&mut self, spec: &Spec) {
        let policy = pod::container_restart_policy(self.desired.pod, spec);
        let Some(newest) = self.actual.newest(&spec.name) else {
            return self.start(spec, 0, None);
        };
        let here = newest.sandbox_id == self.sandbox.id;
        match newest.state {
            State::Running | State::Unknown if !here => {
                let action = kill(newest, GRACE_MIN_SECONDS, KillReason::SandboxGone);
                self.actions.push(action);
            }
            State::Unknown => {
                let action = kill(newest, pod::grace_seconds(self.desired.pod), KillReason::SpecChanged);
                self.actions.push(action);
            }
            State::Running => self.check_running(spec, &newest.clone()),
            // A crash between making and starting it; nothing ran, so it is no restart.
            State::Created => {
                let (id, count) = (newest.id.clone(), newest.restart_count);
                self.actions.push(Action::RemoveContainer { id });
                self.start(spec, count, None);
            }
            State::Exited => {
                let is_init = !pod::is_sidecar(spec)
                    && pod::init_containers(self.desired.pod).iter().any(|init| init.name == spec.name);
                // Init containers run again until they succeed, and run again in a new sandbox.
                let again = match (is_init, here) {
                    (true, true) => newest.exit_code != 0 && policy != RestartPolicy::Never,
                    (true, false) => true,
                    (false, _) => policy.restarts(newest.exit_code),
                };
                if again {
                    let ended_at = newest.finished_at.unwrap_or(newest.created_at);
                    self.start(spec, newest.restart_count + 1, here.then_some(ended_at));
                }
            }
        }
    }

    fn check_running(&mut self, spec: &Spec, found: &Container) {
        let pod = self.desired.pod;
        if let Some(kind) = self.knowledge.accused(&found.id) {
            let own = kind.of(spec).and_then(|probe| probe.termination_grace_period_seconds);
            self.actions.push(kill(found, own.unwrap_or_else(|| pod::grace_seconds(pod)), KillReason::Probe(kind)));
        } else if !found.hash.is_empty() && found.hash != container_hash(spec) {
            self.actions.push(kill(found, pod::grace_seconds(pod), KillReason::SpecChanged));
        }
    }

    fn start(&mut self, spec: &Spec, restart_count: u32, ended_at: Option<Timestamp>) {
        if let Some(ended_at) = ended_at
            && let Some((until, _)) = self.knowledge.backoff.wait(&spec.name, ended_at, self.desired.now)
        {
            return self.actions.push(Action::WakeAt(until));
        }
        let name = spec.name.clone();
        self.actions.push(Action::StartContainer { name, restart_count, after_failure: ended_at.is_some() });
    }

    /// Forgets dead containers but the newest and the one before it, and sandboxes that nothing refers to.
    fn collect_garbage(&mut self) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut kept_in = vec![self.sandbox.id.as_str()];
        for container in &self.actual.containers {
            let earlier = seen.entry(&container.name).or_default();
            if *earlier > DEAD_KEPT && container.state == State::Exited {
                self.actions.push(Action::RemoveContainer { id: container.id.clone() });
            } else {
                kept_in.push(&container.sandbox_id);
            }
            *earlier += 1;
        }
        for sandbox in self.actual.sandboxes.iter().filter(|sandbox| !sandbox.ready) {
            if !kept_in.contains(&sandbox.id.as_str()) {
                self.actions.push(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
