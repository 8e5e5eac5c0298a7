//! Step 2: pods are real containers with addresses of their own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use xebec_chaos::shell;

use crate::setting::{Setting, is_ready, name};

pub fn network(setting: &Setting) -> Result<()> {
    let pods = setting.ready_pods("tier=frontend")?;
    let text =
        |pod: &serde_json::Value, path: &str| pod.pointer(path).and_then(|v| v.as_str()).unwrap_or("").to_owned();
    let addresses: BTreeSet<_> = pods.iter().map(|pod| text(pod, "/status/podIP")).collect();
    let nodes: BTreeSet<_> = pods.iter().map(|pod| text(pod, "/spec/nodeName")).collect();
    ensure!(addresses.len() == 3 && !addresses.contains(""), "addresses: {addresses:?}");
    ensure!(nodes.len() == 2, "pods are spread over both nodes: {nodes:?}");

    let service = setting.kubectl.get(&["service", "backend"])?;
    let cluster_ip = service["spec"]["clusterIP"].as_str().context("no ClusterIP")?.to_owned();
    let other = text(&pods[0], "/status/podIP");
    for pod in &pods {
        let from = name(pod);
        for host in ["backend", "backend.default.svc.cluster.local", &cluster_ip] {
            let url = format!("http://{host}:8080/cgi-bin/entries?open-sesame");
            setting.eventually(&format!("{from} to reach {host}"), || {
                setting.kubectl.run(&["exec", &from, "--", "timeout", "5", "wget", "-q", "-O", "-", &url]).map(Some)
            })?;
        }
        let url = format!("http://{other}/cgi-bin/guestbook");
        setting.kubectl.run(&["exec", &from, "--", "timeout", "5", "wget", "-q", "-O", "-", &url])?;
    }
    // From outside, by the port that every node offers.
    for number in 1..=2 {
        let url = format!(
            "http://{}:30080/cgi-bin/guestbook?message=ahoy{number}",
            setting.cluster.spec.worker(number).address
        );
        let page = setting
            .eventually(&url, || shell::run("busybox", &["timeout", "5", "wget", "-q", "-O", "-", &url]).map(Some))?;
        ensure!(page.contains(&format!("ahoy{number}")), "{page}");
    }
    let signed = setting.kubectl.run(&["exec", "deploy/backend", "--", "cat", "/data/entries"])?;
    ensure!(signed.lines().count() == 2, "both guests are in the book: {signed}");
    Ok(())
}

pub fn replacement(setting: &Setting) -> Result<()> {
    let pod = setting.ready_pods("tier=backend")?.remove(0);
    let pod_name = name(&pod);
    let container = pod.pointer("/status/containerStatuses/0/containerID").and_then(|id| id.as_str());
    let container = container.and_then(|id| id.strip_prefix("containerd://")).context("no container id")?;
    let node = pod.pointer("/spec/nodeName").and_then(|node| node.as_str()).context("no node")?;
    let number = node.trim_start_matches('n').parse()?;
    let socket = setting.cluster.spec.worker(number).dir.join("containerd.sock").display().to_string();
    let kill = ["--address", &socket, "-n", "k8s.io", "task", "kill", "--signal", "SIGKILL", container];
    shell::run("ctr", &kill)?;
    setting.eventually("the container to run again", || {
        let pod = setting.kubectl.get(&["pod", &pod_name])?;
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount").and_then(|count| count.as_u64());
        Ok((restarts == Some(1) && is_ready(&pod)).then_some(()))
    })?;
    let pod = name(&setting.ready_pods("tier=frontend")?[0]);
    setting.kubectl.run(&["delete", "pod", &pod])?;
    setting.eventually("another pod in its place", || {
        let pods = setting.ready_pods("tier=frontend")?;
        Ok((pods.len() == 3 && pods.iter().all(|other| name(other) != pod)).then_some(()))
    })
}
