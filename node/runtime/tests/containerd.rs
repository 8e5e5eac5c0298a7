//! Pods in a real containerd, without an API server. Needs root, and Debian's containerd, runc and CNI plugins.

#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};
use support::{Containerd, IMAGE};
use tokio_util::sync::CancellationToken;
use xebec_node::{
    cri::CriRuntime,
    kubelet::{CtrImporter, Kubelet, Parts, PodUpdate, Settings, SystemClock},
    objects::NoObjects,
    runtime::Runtime,
    volumes::HostVolumes,
};

const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

fn kubelet(containerd: &Containerd, stop: &CancellationToken) -> (Arc<Kubelet>, Arc<dyn Runtime>) {
    let dir = containerd.dir.path();
    let runtime: Arc<dyn Runtime> = Arc::new(CriRuntime::connect(&containerd.socket()).unwrap());
    let settings = Settings {
        node_name: "n".into(),
        node_ip: "127.0.0.1".parse().unwrap(),
        data_dir: dir.join("data"),
        cgroup_root: format!("/xt-node-{}", std::process::id()),
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        host_resolv: Default::default(),
        cpu_milli: 1000,
        memory_bytes: 1 << 30,
    };
    let volumes = HostVolumes {
        pods_dir: settings.data_dir.join("pods"),
        memory_dir: dir.join("memory"),
        cgroups: Some(("/sys/fs/cgroup".into(), settings.cgroup_root.clone())),
    };
    let parts = Parts {
        settings,
        runtime: runtime.clone(),
        volumes: Arc::new(volumes),
        objects: Arc::new(NoObjects),
        importer: Some(Arc::new(CtrImporter::new(&dir.join("images"), &containerd.socket()))),
        services: None,
        client: None,
        recorder: None,
        clock: Arc::new(SystemClock),
    };
    let kubelet = Kubelet::new(parts, stop.clone());
    tokio::spawn(kubelet.clone().watch_runtime(|_| None));
    (kubelet, runtime)
}

fn pod(name: &str, spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}")}, "spec": spec}),
    )
    .unwrap()
}

fn state(pod: &Pod) -> Value {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().first().cloned();
    json!({
        "phase": status.phase,
        "ip": status.pod_ip,
        "ready": container.as_ref().map(|container| container.ready),
        "restarts": container.as_ref().map(|container| container.restart_count),
        "id": container.as_ref().and_then(|container| container.container_id.clone()),
        "state": container.and_then(|container| container.state),
    })
}

async fn wait(kubelet: &Kubelet, name: &str, what: &str, holds: impl Fn(&PodStatus) -> bool) -> Pod {
    let mut last = None;
    let found = tokio::time::timeout(WAIT_MAX, async {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            let pod = kubelet.pod("d", name);
            if let Some(pod) = &pod
                && pod.status.as_ref().is_some_and(&holds)
            {
                return (**pod).clone();
            }
            last = pod;
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("{name} never was {what}: {:#}", last.map(|pod| state(&pod)).unwrap_or_default()))
}

fn is_ready(status: &PodStatus) -> bool {
    status.container_statuses.iter().flatten().all(|container| container.ready)
        && status.phase.as_deref() == Some("Running")
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_restart_and_end_in_a_real_containerd() {
    tracing_subscriber::fmt().with_env_filter("xebec_node=debug").with_test_writer().init();
    let containerd = Containerd::start();
    let stop = CancellationToken::new();
    let (kubelet, runtime) = kubelet(&containerd, &stop);
    let web = pod(
        "web",
        json!({
            "terminationGracePeriodSeconds": 5,
            "initContainers": [{"name": "init", "image": IMAGE, "command": ["sh", "-c", "echo $WHO > /shared/who"],
                "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
            "containers": [{"name": "main", "image": IMAGE,
                "command": ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo hello; while true; do sleep 0.1; done"],
                "readinessProbe": {"exec": {"command": ["cat", "/shared/who"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        }),
    );
    kubelet.update(PodUpdate { pod: Arc::new(web.clone()), gone: false });
    let running = wait(&kubelet, "web", "ready", is_ready).await;
    assert!(state(&running)["ip"].as_str().unwrap().starts_with("10.99.7."), "{:#}", state(&running));
    let id = state(&running)["id"].as_str().unwrap().trim_start_matches("containerd://").to_owned();

    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    let answer =
        runtime.exec(&id, words(&["cat", "/shared/who", "/etc/hosts", "/etc/resolv.conf"]), WAIT_MAX).await.unwrap();
    let text = String::from_utf8(answer.output).unwrap();
    assert!(text.starts_with("web\n") && text.contains("\tweb\n") && text.contains("nameserver 10.96.0.10"), "{text}");

    // An agent that restarts finds the pod as it is.
    stop.cancel();
    let stop = CancellationToken::new();
    let (kubelet, _) = self::kubelet(&containerd, &stop);
    kubelet.update(PodUpdate { pod: Arc::new(web.clone()), gone: false });
    let again = wait(&kubelet, "web", "ready again", is_ready).await;
    assert_eq!(state(&again)["id"], state(&running)["id"], "a restarted agent touches no container");

    // A killed process comes back as a new container, and its predecessor is told.
    runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    let restarted = wait(&kubelet, "web", "restarted", |status| {
        is_ready(status) && status.container_statuses.as_ref().unwrap()[0].restart_count == 1
    })
    .await;
    let container = restarted.status.unwrap().container_statuses.unwrap().remove(0);
    assert_eq!(container.last_state.unwrap().terminated.unwrap().exit_code, 137);

    // Deletion is graceful, and leaves nothing.
    let mut deleted = web.clone();
    deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    deleted.metadata.deletion_grace_period_seconds = Some(5);
    let logs = containerd.dir.path().join("data/pods-logs/d_web_uid-web/main/1.log");
    let read = {
        let logs = logs.clone();
        tokio::spawn(async move { follow(&logs, "bye").await })
    };
    kubelet.update(PodUpdate { pod: Arc::new(deleted), gone: false });
    let log = read.await.unwrap();
    assert!(log.contains("stdout F hello") && log.contains("stdout F bye"), "{log}");
    gone(&kubelet, &runtime, "uid-web").await;
    assert!(!logs.exists() && !containerd.dir.path().join("data/pods/uid-web").exists());
    stop.cancel();
}

async fn follow(path: &Path, until: &str) -> String {
    let found = tokio::time::timeout(WAIT_MAX, async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.contains(until) {
                return text;
            }
        }
    });
    found.await.expect("the log never said it")
}

async fn gone(kubelet: &Kubelet, runtime: &Arc<dyn Runtime>, uid: &str) {
    let empty = tokio::time::timeout(WAIT_MAX, async {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            let actual = runtime.observe(uid).await.unwrap();
            if kubelet.pods().is_empty() && actual.containers.is_empty() && actual.sandboxes.is_empty() {
                return;
            }
        }
    });
    empty.await.expect("something of the pod is left");
}
