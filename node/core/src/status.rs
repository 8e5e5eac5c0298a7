//! The status a pod gets, from its specification, the runtime's answer and what the agent knows
//! (`pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/status/generate.go`).

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    actual::{Actual, Container, State},
    plan::{Cause, Intent, Knowledge},
    pod,
};

/// Facts about the host that a pod's status repeats.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The node's address.
    pub ip: String,
    /// What stands before `://` in container ids.
    pub runtime_name: String,
}

/// Everything a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod, with the status the API server has.
    pub pod: &'a Pod,
    /// Where it is headed.
    pub intent: Intent,
    /// The runtime's answer.
    pub actual: &'a Actual,
    /// What the agent knows.
    pub knowledge: &'a Knowledge,
    /// The host.
    pub host: &'a Host,
    /// The time.
    pub now: Timestamp,
}

/// Computes the status. Invariant: times of conditions change only with the conditions, so that an unchanged pod has an
/// unchanged status.
pub fn pod_status(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let old = pod.status.clone().unwrap_or_default();
    let mains: Vec<_> = pod::spec(pod).containers.iter().map(|spec| container_status(inputs, spec, false)).collect();
    let inits: Vec<_> = pod::init_containers(pod).iter().map(|spec| container_status(inputs, spec, true)).collect();
    let phase = phase(inputs, &mains, &inits);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(inputs, phase, &mains, &inits, &old)),
        container_statuses: Some(mains),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        qos_class: Some(old.qos_class.clone().unwrap_or_else(|| pod::qos_class(pod).to_owned())),
        start_time: old.start_time.clone().or(Some(Time(inputs.now))),
        observed_generation: pod.metadata.generation,
        host_ip: Some(inputs.host.ip.clone()),
        host_ips: Some(vec![HostIP { ip: inputs.host.ip.clone() }]),
        reason: old.reason.clone(),
        message: old.message.clone(),
        ..old.clone()
    };
    if let Intent::Terminate { cause: Cause::Deadline, .. } = inputs.intent {
        status.reason = Some("DeadlineExceeded".into());
        status.message = Some("Pod was active on the node longer than the specified deadline".into());
    }
    let ips = match inputs.actual.sandboxes.first() {
        _ if pod::host_network(pod) => vec![inputs.host.ip.clone()],
        Some(sandbox) if sandbox.ready => sandbox.ips.clone(),
        _ => Vec::new(),
    };
    if !ips.is_empty() {
        status.pod_ip = ips.first().cloned();
        status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
    status
}

fn container_status(inputs: &Inputs<'_>, spec: &Spec, is_init: bool) -> ContainerStatus {
    let sandbox_id = inputs.actual.sandboxes.first().map(|sandbox| sandbox.id.as_str()).unwrap_or_default();
    let newest = inputs.actual.newest(&spec.name);
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        started: Some(false),
        ..Default::default()
    };
    let Some(found) = newest else {
        let (reason, message) = never_started(inputs, spec, is_init);
        let waiting = if matches!(inputs.intent, Intent::Terminate { .. }) && inputs.actual.is_stopped() {
            // Nothing will ever start it; upstream says so with this exit status.
            terminated_unseen()
        } else {
            waiting(&reason, message)
        };
        status.state = Some(waiting);
        return status;
    };
    status.restart_count = i32::try_from(found.restart_count).unwrap_or(i32::MAX);
    status.image_id = found.image_id.clone();
    status.container_id = Some(format!("{}://{}", inputs.host.runtime_name, found.id));
    status.last_state = inputs
        .actual
        .previous(&spec.name)
        .filter(|previous| previous.state == State::Exited)
        .map(|previous| terminated(inputs, previous));
    match found.state {
        State::Running => {
            let here = found.sandbox_id == sandbox_id;
            status.started = Some(inputs.knowledge.started(spec, &found.id));
            status.ready = here && inputs.knowledge.ready(spec, &found.id);
            if is_init && !pod::is_sidecar(spec) {
                status.ready = false;
            }
            let started_at = found.started_at.map(Time);
            status.state =
                Some(ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() });
        }
        State::Created | State::Unknown => {
            status.state = Some(waiting("ContainerCreating", None));
        }
        State::Exited => {
            status.ready = is_init && found.exit_code == 0 && !pod::is_sidecar(spec);
            status.state = Some(terminated(inputs, found));
            if let Some(waits) = waits_to_restart(inputs, spec, found) {
                status.last_state = status.state.replace(waits);
            }
        }
    }
    status
}

fn never_started(inputs: &Inputs<'_>, spec: &Spec, is_init: bool) -> (String, Option<String>) {
    if let Some((reason, message)) = inputs.knowledge.waiting.get(&spec.name) {
        return (reason.clone(), Some(message.clone()));
    }
    let has_inits = pod::init_containers(inputs.pod).iter().any(|init| !pod::is_sidecar(init));
    let reason = if is_init || has_inits { "PodInitializing" } else { "ContainerCreating" };
    (reason.to_owned(), None)
}

fn waits_to_restart(inputs: &Inputs<'_>, spec: &Spec, found: &Container) -> Option<ContainerState> {
    if inputs.intent != Intent::Run {
        return None;
    }
    if let Some((reason, message)) = inputs.knowledge.waiting.get(&spec.name) {
        return Some(waiting(reason, Some(message.clone())));
    }
    if !pod::container_restart_policy(inputs.pod, spec).restarts(found.exit_code) {
        return None;
    }
    let ended_at = found.finished_at.unwrap_or(found.created_at);
    let (_, delay) = inputs.knowledge.backoff.wait(&spec.name, ended_at, inputs.now)?;
    Some(waiting("CrashLoopBackOff", Some(back_off_message(inputs.pod, &spec.name, delay))))
}

/// What upstream's event says of a container in back-off (`doBackOff`, `pkg/kubelet/kuberuntime`).
pub fn back_off_event(pod: &Pod, container: &str) -> String {
    let (name, namespace, uid) = (pod::name(pod), pod::namespace(pod), pod::uid(pod));
    format!("Back-off restarting failed container {container} in pod {name}_{namespace}({uid})")
}

/// What upstream says of a container in back-off, in its status.
pub fn back_off_message(pod: &Pod, container: &str, delay: jiff::SignedDuration) -> String {
    let delay = delay.as_secs();
    let delay = if delay >= 60 { format!("{}m{}s", delay / 60, delay % 60) } else { format!("{delay}s") };
    let (name, namespace, uid) = (pod::name(pod), pod::namespace(pod), pod::uid(pod));
    format!("back-off {delay} restarting failed container={container} pod={name}_{namespace}({uid})")
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn terminated_unseen() -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..Default::default()
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

fn terminated(inputs: &Inputs<'_>, found: &Container) -> ContainerState {
    let reason = match (found.reason.as_str(), found.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (given, _) => given,
    };
    let terminated = ContainerStateTerminated {
        exit_code: found.exit_code,
        reason: Some(reason.to_owned()),
        message: (!found.message.is_empty()).then(|| found.message.clone()),
        started_at: found.started_at.map(Time),
        finished_at: found.finished_at.map(Time),
        container_id: Some(format!("{}://{}", inputs.host.runtime_name, found.id)),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    let of = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code);
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    of(&status.state).or(if waits { of(&status.last_state) } else { None })
}

fn phase(inputs: &Inputs<'_>, mains: &[ContainerStatus], inits: &[ContainerStatus]) -> &'static str {
    match pod::phase(inputs.pod) {
        "Succeeded" => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    let is_running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let stopped = mains.iter().filter(|status| !is_running(status)).filter_map(exit_code);
    let (mut ended, mut succeeded) = (0, 0);
    for code in stopped {
        ended += 1;
        succeeded += usize::from(code == 0);
    }
    let running = mains.iter().filter(|status| is_running(status)).count();
    if let Intent::Terminate { cause, .. } = inputs.intent
        && inputs.actual.is_stopped()
    {
        let good = cause != Cause::Deadline && succeeded == mains.len() && ended == mains.len();
        return if good { "Succeeded" } else { "Failed" };
    }
    let specs = pod::init_containers(inputs.pod);
    let initializing = specs.iter().zip(inits).filter(|(spec, _)| !pod::is_sidecar(spec)).any(|(_, s)| !s.ready);
    if (initializing && running == 0 && ended == 0) || running + ended < mains.len() {
        return "Pending";
    }
    "Running"
}

struct Condition {
    name: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

fn conditions(
    inputs: &Inputs<'_>,
    phase: &str,
    mains: &[ContainerStatus],
    inits: &[ContainerStatus],
    old: &PodStatus,
) -> Vec<PodCondition> {
    let has_sandbox = inputs.actual.sandbox().is_some();
    let ended = matches!(phase, "Succeeded" | "Failed");
    let specs = pod::init_containers(inputs.pod);
    let incomplete: Vec<&str> = specs
        .iter()
        .zip(inits)
        .filter(|(spec, status)| if pod::is_sidecar(spec) { status.started != Some(true) } else { !status.ready })
        .map(|(_, status)| status.name.as_str())
        .collect();
    let main_seen = mains.iter().any(|status| status.container_id.is_some());
    let initialized = incomplete.is_empty() || main_seen || phase == "Succeeded";
    let sidecars = specs.iter().zip(inits).filter(|(spec, _)| pod::is_sidecar(spec)).map(|(_, status)| status);
    let unready: Vec<&str> =
        mains.iter().chain(sidecars).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let containers = if ended {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        Condition { name: "ContainersReady", holds: false, reason: Some(reason), message: None }
    } else if unready.is_empty() {
        Condition { name: "ContainersReady", holds: true, reason: None, message: None }
    } else {
        let message = Some(format!("containers with unready status: [{}]", unready.join(" ")));
        Condition { name: "ContainersReady", holds: false, reason: Some("ContainersNotReady"), message }
    };
    let wanted = [
        Condition { name: "PodReadyToStartContainers", holds: has_sandbox, reason: None, message: None },
        Condition {
            name: "Initialized",
            holds: initialized,
            reason: match (initialized, phase) {
                (true, "Succeeded") => Some("PodCompleted"),
                (true, _) => None,
                (false, _) => Some("ContainersNotInitialized"),
            },
            message: (!initialized).then(|| format!("containers with incomplete status: [{}]", incomplete.join(" "))),
        },
        pod_ready(inputs.pod, old, &containers),
        containers,
        Condition { name: "PodScheduled", holds: true, reason: None, message: None },
    ];
    merge(&wanted, old, inputs)
}

/// Readiness gates may keep a pod unready whose containers are ready (KEP-580).
fn pod_ready(pod: &Pod, old: &PodStatus, containers: &Condition) -> Condition {
    let closed: Vec<&str> = pod::spec(pod)
        .readiness_gates
        .iter()
        .flatten()
        .map(|gate| gate.condition_type.as_str())
        .filter(|gate| !old.conditions.iter().flatten().any(|found| found.type_ == *gate && found.status == "True"))
        .collect();
    if containers.holds && !closed.is_empty() {
        let message = closed
            .iter()
            .map(|gate| format!("corresponding condition of pod readiness gate \"{gate}\" does not exist."))
            .collect::<Vec<_>>()
            .join(", ");
        return Condition {
            name: "Ready",
            holds: false,
            reason: Some("ReadinessGatesNotReady"),
            message: Some(message),
        };
    }
    Condition { name: "Ready", holds: containers.holds, reason: containers.reason, message: containers.message.clone() }
}

fn merge(wanted: &[Condition], old: &PodStatus, inputs: &Inputs<'_>) -> Vec<PodCondition> {
    let old = old.conditions.as_deref().unwrap_or_default();
    let mut merged: Vec<PodCondition> = wanted
        .iter()
        .map(|condition| {
            let before = old.iter().find(|found| found.type_ == condition.name);
            let status = if condition.holds { "True" } else { "False" };
            let since =
                before.filter(|found| found.status == status).and_then(|found| found.last_transition_time.clone());
            PodCondition {
                type_: condition.name.to_owned(),
                status: status.to_owned(),
                reason: condition.reason.map(str::to_owned),
                message: condition.message.clone(),
                last_transition_time: since.or(Some(Time(inputs.now))),
                last_probe_time: None,
                observed_generation: inputs.pod.metadata.generation,
            }
        })
        .collect();
    merged.extend(old.iter().filter(|found| !wanted.iter().any(|own| own.name == found.type_)).cloned());
    merged
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
