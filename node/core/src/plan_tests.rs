use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec,
    }))
    .unwrap()
}

fn two_containers(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}))
}

fn sandbox(attempt: u32, ready: bool) -> Sandbox {
    let ips = if ready { vec!["10.0.0.1".to_owned()] } else { vec![] };
    Sandbox { id: format!("s{attempt}"), attempt, ready, created_at: at(0), ips }
}

fn container(name: &str, sandbox: u32, count: u32, state: State, exit_code: i32) -> Container {
    let spec = Spec { name: name.into(), image: Some("i".into()), ..Default::default() };
    let ended = (state == State::Exited).then(|| at(NOW - 1));
    Container {
        id: format!("{name}{count}"),
        name: name.into(),
        sandbox_id: format!("s{sandbox}"),
        restart_count: count,
        hash: container_hash(&spec),
        state,
        created_at: at(NOW - 10 + i64::from(count)),
        started_at: Some(at(NOW - 10)),
        finished_at: ended,
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "i".into(),
        image_id: String::new(),
    }
}

fn short(action: &Action) -> String {
    match action {
        Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
        Action::StopSandbox { id } => format!("stop {id}"),
        Action::RemoveSandbox { id } => format!("forget {id}"),
        Action::StartContainer { name, restart_count, after_failure } => {
            format!("start {name}{restart_count}{}", if *after_failure { " again" } else { "" })
        }
        Action::KillContainer { id, grace_seconds, reason, .. } => format!("kill {id} {grace_seconds}s {reason:?}"),
        Action::RemoveContainer { id } => format!("remove {id}"),
        Action::Finish => "finish".into(),
        Action::WakeAt(time) => format!("wake {}", time.as_second()),
    }
}

#[track_caller]
fn check_knowing(pod: &Pod, sandboxes: &[Sandbox], containers: &[Container], knowledge: &Knowledge, expected: &[&str]) {
    let actual = Actual::new(sandboxes.to_vec(), containers.to_vec());
    let now = at(NOW);
    let desired = Desired { pod, intent: intent(pod, &actual, now), now };
    let found: Vec<String> = plan(&desired, &actual, knowledge).iter().map(short).collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn check(pod: &Pod, sandboxes: &[Sandbox], containers: &[Container], expected: &[&str]) {
    check_knowing(pod, sandboxes, containers, &Knowledge::default(), expected);
}

#[test]
fn a_new_pod_gets_its_sandbox_then_all_its_containers() {
    let pod = two_containers("Always");
    check(&pod, &[], &[], &["sandbox 0"]);
    check(&pod, &[sandbox(0, true)], &[], &["start a0", "start b0"]);
    let running = [container("a", 0, 0, State::Running, 0), container("b", 0, 0, State::Running, 0)];
    check(&pod, &[sandbox(0, true)], &running, &[]);
}

#[test]
fn a_lost_sandbox_is_replaced_once_and_takes_its_containers_along() {
    let pod = two_containers("Always");
    let running = [container("a", 0, 0, State::Running, 0)];
    check(&pod, &[sandbox(0, false)], &running, &["kill a0 0s SandboxGone", "sandbox 1"]);
    let dead = [container("a", 0, 0, State::Exited, 137)];
    check(&pod, &[sandbox(1, true), sandbox(0, false)], &dead, &["start a1", "start b0"]);
    let doubled = [sandbox(1, true), sandbox(0, true)];
    check(&pod, &doubled, &[], &["stop s1", "stop s0", "sandbox 2"]);
}

#[test]
fn restart_policies_decide_about_ended_containers() {
    let ended = |code| [container("a", 0, 0, State::Exited, code), container("b", 0, 0, State::Running, 0)];
    for (policy, code, expected) in [
        ("Always", 0, &["start a1 again"][..]),
        ("Always", 1, &["start a1 again"]),
        ("OnFailure", 0, &[]),
        ("OnFailure", 1, &["start a1 again"]),
        ("Never", 1, &[]),
    ] {
        check(&two_containers(policy), &[sandbox(0, true)], &ended(code), expected);
    }
}

#[test]
fn a_crashing_container_waits_for_its_back_off() {
    let pod = two_containers("Always");
    let mut knowledge = Knowledge::default();
    knowledge.backoff.next("a", at(NOW - 5));
    let found = [container("a", 0, 1, State::Exited, 1), container("b", 0, 0, State::Running, 0)];
    check_knowing(&pod, &[sandbox(0, true)], &found, &knowledge, &["wake 1009"]);
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_gate_by_their_startup() {
    let pod = pod(json!({
        "initContainers": [
            {"name": "i", "image": "i"},
            {"name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
            {"name": "j", "image": "i"}],
        "containers": [{"name": "m", "image": "i"}],
    }));
    let boxes = [sandbox(0, true)];
    check(&pod, &boxes, &[], &["start i0"]);
    let mut found = vec![container("i", 0, 0, State::Running, 0)];
    check(&pod, &boxes, &found, &[]);
    found[0] = container("i", 0, 0, State::Exited, 3);
    check(&pod, &boxes, &found, &["start i1 again"]);
    found[0] = container("i", 0, 0, State::Exited, 0);
    check(&pod, &boxes, &found, &["start s0"]);
    found.push(container("s", 0, 0, State::Running, 0));
    check(&pod, &boxes, &found, &[]);
    let mut knowledge = Knowledge::default();
    knowledge.verdicts.insert(("s0".into(), Kind::Startup), true);
    check_knowing(&pod, &boxes, &found, &knowledge, &["start j0"]);
    found.push(container("j", 0, 0, State::Exited, 0));
    check_knowing(&pod, &boxes, &found, &knowledge, &["start m0"]);
    // Once a main container exists, init containers are over, and a dead sidecar comes back by itself.
    let later = [container("m", 0, 0, State::Running, 0), container("s", 0, 0, State::Exited, 1)];
    check(&pod, &boxes, &later, &["start s1 again"]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let pod = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "i"}], "containers": [{"name": "m", "image": "i"}]}));
    let failed = [container("i", 0, 0, State::Exited, 1)];
    check(&pod, &[sandbox(0, true)], &failed, &["stop s0"]);
    check(&pod, &[sandbox(0, false)], &failed, &["finish"]);
}

#[test]
fn probes_and_changed_images_kill() {
    let mut knowledge = Knowledge::default();
    knowledge.verdicts.insert(("a0".into(), Kind::Liveness), false);
    let found = [container("a", 0, 0, State::Running, 0), container("b", 0, 0, State::Running, 0)];
    let pod = two_containers("Always");
    check_knowing(&pod, &[sandbox(0, true)], &found, &knowledge, &["kill a0 30s Probe(Liveness)"]);
    let mut changed = pod.clone();
    changed.spec.as_mut().unwrap().containers[1].image = Some("j".into());
    check(&changed, &[sandbox(0, true)], &found, &["kill b0 30s SpecChanged"]);
}

#[test]
fn a_deleted_pod_ends_with_its_sandbox_last() {
    let mut pod = pod(json!({
        "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "m", "image": "i"}],
    }));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(NOW)));
    pod.metadata.deletion_grace_period_seconds = Some(7);
    let (up, down) = ([sandbox(0, true)], [sandbox(0, false)]);
    let sidecar = |state| container("s", 0, 0, state, 0);
    let main = |state| container("m", 0, 0, state, 0);
    check(&pod, &up, &[sidecar(State::Running), main(State::Running)], &["kill m0 7s PodEnds"]);
    check(&pod, &up, &[sidecar(State::Running), main(State::Exited)], &["kill s0 7s PodEnds"]);
    let ended = [sidecar(State::Exited), main(State::Exited)];
    check(&pod, &up, &ended, &["stop s0"]);
    check(&pod, &down, &ended, &["finish", "remove s0", "remove m0", "forget s0"]);
    check(&pod, &[], &[], &["finish"]);
}

#[test]
fn the_deadline_ends_a_pod_and_wakes_its_worker() {
    let mut pod = two_containers("Always");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let start = |second| {
        Some(k8s_openapi::api::core::v1::PodStatus {
            start_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second))),
            ..Default::default()
        })
    };
    let found = [container("a", 0, 0, State::Running, 0), container("b", 0, 0, State::Running, 0)];
    pod.status = start(NOW - 50);
    check(&pod, &[sandbox(0, true)], &found, &["wake 1010"]);
    pod.status = start(NOW - 60);
    check(&pod, &[sandbox(0, true)], &found, &["kill b0 30s PodEnds", "kill a0 30s PodEnds"]);
}

#[test]
fn only_the_last_two_dead_containers_are_kept() {
    let pod = two_containers("Always");
    let found = [
        container("a", 0, 3, State::Running, 0),
        container("a", 0, 2, State::Exited, 1),
        container("a", 0, 1, State::Exited, 1),
        container("b", 0, 0, State::Running, 0),
    ];
    check(&pod, &[sandbox(0, true)], &found, &["remove a1"]);
}

#[test]
fn a_container_that_was_made_but_never_started_is_made_anew() {
    let pod = two_containers("Always");
    let found = [container("a", 0, 2, State::Created, 0), container("b", 0, 0, State::Running, 0)];
    check(&pod, &[sandbox(0, true)], &found, &["remove a2", "start a2"]);
}
