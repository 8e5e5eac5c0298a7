use serde_json::json;

use super::*;
use crate::{actual::Sandbox, plan::intent, probe::Kind};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn test_pod(policy: &str, status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"restartPolicy": policy, "containers": [
            {"name": "a", "image": "i", "readinessProbe": {"exec": {"command": ["x"]}}}]},
        "status": status,
    }))
    .unwrap()
}

fn found(id: &str, count: u32, state: State, exit_code: i32, reason: &str) -> Container {
    Container {
        id: id.into(),
        name: "a".into(),
        sandbox_id: "s".into(),
        restart_count: count,
        hash: String::new(),
        state,
        created_at: at(1),
        started_at: Some(at(2)),
        finished_at: (state == State::Exited).then(|| at(99)),
        exit_code,
        reason: reason.into(),
        message: String::new(),
        image: "i".into(),
        image_id: "sha".into(),
    }
}

fn compute(pod: &Pod, ready: bool, containers: Vec<Container>, knowledge: &Knowledge) -> PodStatus {
    let sandbox = Sandbox { id: "s".into(), attempt: 0, ready, created_at: at(0), ips: vec!["10.0.0.9".into()] };
    let actual = Actual::new(vec![sandbox], containers);
    let host = Host { ip: "10.77.0.21".into(), runtime_name: "containerd".into() };
    let intent = intent(pod, &actual, at(100));
    pod_status(&Inputs { pod, intent, actual: &actual, knowledge, host: &host, now: at(100) })
}

fn summary(status: &PodStatus) -> String {
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let state = container.state.as_ref().unwrap();
    let word = state
        .running
        .as_ref()
        .map(|_| "running".to_owned())
        .or(state.waiting.as_ref().and_then(|w| w.reason.clone()))
        .or(state.terminated.as_ref().and_then(|t| t.reason.clone()));
    let holding: Vec<&str> =
        status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
    format!("{} {} x{} {}", status.phase.as_ref().unwrap(), word.unwrap(), container.restart_count, holding.join(","))
}

#[test]
fn statuses_follow_the_container() {
    let none = Knowledge::default();
    let mut ready = Knowledge::default();
    ready.verdicts.insert(("c".into(), Kind::Readiness), true);
    let mut pull = Knowledge::default();
    pull.waiting.insert("a".into(), ("ImagePullBackOff".into(), "m".into()));
    let mut crash = Knowledge::default();
    crash.backoff.next("a", at(95));
    let running = || vec![found("c", 1, State::Running, 0, "")];
    let ended = |code, reason: &str| vec![found("c", 2, State::Exited, code, reason)];
    let up = "PodReadyToStartContainers,Initialized";
    for (policy, sandbox, containers, knowledge, expected) in [
        ("Always", true, vec![], &none, format!("Pending ContainerCreating x0 {up},PodScheduled")),
        ("Always", true, vec![], &pull, format!("Pending ImagePullBackOff x0 {up},PodScheduled")),
        ("Always", true, running(), &none, format!("Running running x1 {up},PodScheduled")),
        ("Always", true, running(), &ready, format!("Running running x1 {up},Ready,ContainersReady,PodScheduled")),
        ("Always", true, ended(1, ""), &crash, format!("Running CrashLoopBackOff x2 {up},PodScheduled")),
        ("Always", true, ended(137, "OOMKilled"), &none, format!("Running OOMKilled x2 {up},PodScheduled")),
        ("Never", false, ended(0, "Completed"), &none, "Succeeded Completed x2 Initialized,PodScheduled".into()),
        ("Never", false, ended(2, "Error"), &none, "Failed Error x2 Initialized,PodScheduled".into()),
    ] {
        assert_eq!(summary(&compute(&test_pod(policy, json!({})), sandbox, containers, knowledge)), expected);
    }
}

#[test]
fn an_unchanged_pod_has_an_unchanged_status() {
    let none = Knowledge::default();
    let mut pod = test_pod("Always", json!({"startTime": "1970-01-01T00:00:07Z"}));
    let first = compute(&pod, true, vec![found("c", 0, State::Running, 0, "")], &none);
    pod.status = Some(first.clone());
    pod.status.as_mut().unwrap().conditions.as_mut().unwrap().iter_mut().for_each(|condition| {
        condition.last_transition_time = Some(Time(at(50)));
    });
    let second = compute(&pod, true, vec![found("c", 0, State::Running, 0, "")], &none);
    assert_eq!(Some(&second), pod.status.as_ref());
    assert_eq!(second.pod_ip.as_deref(), Some("10.0.0.9"));
}

#[test]
fn a_restarted_container_shows_its_last_end() {
    let containers = vec![found("d", 1, State::Running, 0, ""), found("c", 0, State::Exited, 3, "Error")];
    let status = compute(&test_pod("Always", json!({})), true, containers, &Knowledge::default());
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!(container.container_id.as_deref(), Some("containerd://d"));
}
