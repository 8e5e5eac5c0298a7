//! What the kubelet tells about its pods: `/pods`, `/metrics`, `/stats/summary`.

use std::fmt::Write as _;

use http::{Response, StatusCode, header};
use serde_json::{Value, json};
use xebec_node_core::pod;

use super::{Body, full, plain};
use crate::kubelet::Kubelet;

pub(super) fn pods(kubelet: &Kubelet) -> Response<Body> {
    let items: Vec<Value> = kubelet.pods().iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
    super::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

pub(super) async fn metrics(kubelet: &Kubelet) -> Response<Body> {
    let usage = kubelet.parts.runtime.usage().await.unwrap_or_default();
    let pods = kubelet.pods();
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).and_then(|()| text.write_char('\n')).expect("a String takes all text");
    };
    line(format_args!("# TYPE kubelet_running_pods gauge"));
    line(format_args!("kubelet_running_pods {}", pods.len()));
    line(format_args!("# TYPE kubelet_running_containers gauge"));
    line(format_args!("kubelet_running_containers {}", usage.len()));
    line(format_args!("# TYPE container_cpu_usage_seconds_total counter"));
    for found in &usage {
        let Some(pod) = pods.iter().find(|pod| pod::uid(pod) == found.pod_uid) else { continue };
        let labels = format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\"",
            found.container,
            pod::namespace(pod),
            pod::name(pod)
        );
        line(format_args!("container_cpu_usage_seconds_total{{{labels}}} {}", found.cpu_nanoseconds as f64 / 1e9));
        line(format_args!("container_memory_working_set_bytes{{{labels}}} {}", found.memory_bytes));
    }
    let mut answer = Response::new(full(text));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

pub(super) async fn summary(kubelet: &Kubelet) -> Response<Body> {
    let usage = match kubelet.parts.runtime.usage().await {
        Ok(usage) => usage,
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let now = jiff::Timestamp::now().to_string();
    let pods: Vec<Value> = kubelet
        .pods()
        .iter()
        .map(|pod| {
            let containers: Vec<Value> = usage
                .iter()
                .filter(|found| found.pod_uid == pod::uid(pod))
                .map(|found| {
                    json!({"name": found.container,
                        "cpu": {"time": now, "usageCoreNanoSeconds": found.cpu_nanoseconds},
                        "memory": {"time": now, "workingSetBytes": found.memory_bytes}})
                })
                .collect();
            json!({"podRef": {"name": pod::name(pod), "namespace": pod::namespace(pod), "uid": pod::uid(pod)},
                "containers": containers})
        })
        .collect();
    super::json(&json!({"node": {"nodeName": kubelet.parts.settings.node_name}, "pods": pods}))
}
