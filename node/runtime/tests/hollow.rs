//! The real kubelet on a hollow runtime: no root, no containers, no API server.

#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xebec_node::{
    hollow::HollowRuntime,
    kubelet::{Kubelet, Parts, PodUpdate, Settings, SystemClock},
    objects::NoObjects,
    volumes::HollowVolumes,
};

const WAIT_MAX: Duration = Duration::from_secs(20);

fn kubelet(stop: &CancellationToken) -> Arc<Kubelet> {
    let runtime = HollowRuntime::default();
    runtime.set_pod_cidr("10.244.9.0/24".parse().unwrap());
    let settings = Settings {
        node_name: "h".into(),
        node_ip: "127.0.0.1".parse().unwrap(),
        data_dir: "/nonexistent".into(),
        cgroup_root: "/h".into(),
        cluster_dns: vec![],
        cluster_domain: "cluster.local".into(),
        host_resolv: Default::default(),
        cpu_milli: 1000,
        memory_bytes: 1 << 30,
    };
    let parts = Parts {
        settings,
        runtime: Arc::new(runtime),
        volumes: Arc::new(HollowVolumes),
        objects: Arc::new(NoObjects),
        importer: None,
        services: None,
        client: None,
        recorder: None,
        clock: Arc::new(SystemClock),
    };
    Kubelet::new(parts, stop.clone())
}

fn pod(index: usize) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("p{index}"), "namespace": "d", "uid": format!("u{index}")},
        "spec": {"containers": [{"name": "c", "image": "any:1", "readinessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v", "configMap": {"name": "none"}}]},
    }))
    .unwrap()
}

async fn wait(what: &str, holds: impl Fn() -> bool) {
    let found = tokio::time::timeout(WAIT_MAX, async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            tick.tick().await;
        }
    });
    assert!(found.await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn hollow_pods_become_ready_with_addresses_of_their_own_and_go_when_deleted() {
    let stop = CancellationToken::new();
    let kubelet = kubelet(&stop);
    for index in 0..20 {
        kubelet.update(PodUpdate { pod: Arc::new(pod(index)), gone: false });
    }
    let ready = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        status.phase.as_deref() == Some("Running")
            && status.conditions.iter().flatten().any(|found| found.type_ == "Ready" && found.status == "True")
    };
    wait("all pods ready", || kubelet.pods().iter().all(|pod| ready(pod)) && kubelet.pods().len() == 20).await;
    let ips: std::collections::BTreeSet<_> =
        kubelet.pods().iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    assert_eq!(ips.len(), 20, "{ips:?}");
    for index in 0..20 {
        kubelet.update(PodUpdate { pod: Arc::new(pod(index)), gone: true });
    }
    wait("all pods gone", || kubelet.pods().is_empty()).await;
    stop.cancel();
}
