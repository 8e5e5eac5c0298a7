//! Step 3: masters die while clients write.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use xebec_chaos::{
    cluster::{self, Host},
    workload::Writers,
};

use crate::setting::{Setting, name};

/// Writes that must have been acknowledged before and after the fault.
const WRITES: usize = 200;

pub fn kill_store_leader(setting: &Setting) -> Result<()> {
    let leader = setting.cluster.store_leader()?;
    setting.kubectl.run(&["create", "namespace", "writes"])?;
    let before = restarts(setting)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(setting.api())?;
    let writers = runtime.block_on(async { Writers::start(&client, "writes") });
    setting.eventually("writes to flow", || Ok((writers.acknowledged() >= WRITES).then_some(())))?;
    setting.cluster.component(&leader).kill()?;
    let at_kill = writers.acknowledged();
    setting.eventually("writes to flow again", || Ok((writers.acknowledged() >= at_kill + WRITES).then_some(())))?;
    let killed = Instant::now();
    control_loops_work(setting, "after-store-leader")?;
    eprintln!("    control loops at work {:.1} s after writes were back", killed.elapsed().as_secs_f64());
    let record = runtime.block_on(writers.check())?;
    eprintln!(
        "    {} writes acknowledged, none lost; longest gap {:.2} s",
        record.acknowledged.len(),
        record.longest_gap().as_secs_f64()
    );
    ensure!(restarts(setting)? == before, "a running pod noticed the master's death");
    comes_back(setting, &leader)
}

pub fn kill_controllers_leader(setting: &Setting) -> Result<()> {
    let leader = setting.cluster.controllers_leader()?;
    let before = restarts(setting)?;
    setting.cluster.component(&leader).kill()?;
    control_loops_work(setting, "after-controllers-leader")?;
    let successor = setting.eventually("the Lease to name another master", || {
        let holder = setting.cluster.controllers_leader()?;
        Ok((holder.name != leader.name).then_some(holder))
    })?;
    eprintln!("    {} took over from {}", successor.name, leader.name);
    ensure!(restarts(setting)? == before, "a running pod noticed the master's death");
    comes_back(setting, &leader)
}

pub fn whole_cluster_restarts(setting: &Setting) -> Result<()> {
    let before = setting.kubectl.run(&["get", "configmap", "guestbook", "-o", "jsonpath={.metadata.uid}"])?;
    for host in setting.cluster.spec.masters() {
        setting.cluster.component(&host).kill()?;
    }
    cluster::up(&setting.cluster)?;
    let after = setting.kubectl.run(&["get", "configmap", "guestbook", "-o", "jsonpath={.metadata.uid}"])?;
    ensure!(before == after, "the same objects are there: {before} {after}");
    control_loops_work(setting, "after-restart")
}

/// Scheduler and controllers are at work when a fresh Deployment becomes available.
fn control_loops_work(setting: &Setting, deployment: &str) -> Result<()> {
    setting.eventually("the API to take a deployment", || {
        let create = ["create", "deployment", deployment, "--image=xebec.local/busybox:1", "--", "sleep", "86400"];
        match setting.kubectl.run(&create) {
            Err(error) if format!("{error:#}").contains("already exists") => Ok(Some(())),
            other => other.map(|_| Some(())),
        }
    })?;
    setting.eventually("the deployment to become available", || {
        let object = setting.kubectl.get(&["deployment", deployment])?;
        Ok((object["status"]["availableReplicas"] == 1).then_some(()))
    })?;
    setting.kubectl.run(&["delete", "deployment", deployment])?;
    Ok(())
}

/// The master starts again, and its store catches up with the others.
fn comes_back(setting: &Setting, host: &Host) -> Result<()> {
    cluster::start_host(&setting.cluster, host)?;
    setting.eventually(&format!("{} to catch up", host.name), || {
        let revision = |url: String| -> Result<i64> {
            let text = setting.cluster.etcdctl(&[url], &["endpoint", "status", "--write-out=json"])?;
            let status: serde_json::Value = serde_json::from_str(&text)?;
            status[0]["Status"]["header"]["revision"].as_i64().context("no revision")
        };
        let leader = revision(setting.cluster.store_leader()?.store_client_url())?;
        Ok((revision(host.store_client_url())? >= leader).then_some(()))
    })?;
    let server = format!("--server={}", host.api_url());
    setting.eventually(&format!("{} to serve", host.name), || {
        setting.kubectl.run(&[&server, "get", "--raw=/readyz"]).map(Some)
    })?;
    Ok(())
}

/// Every guestbook pod with its restarts.
fn restarts(setting: &Setting) -> Result<BTreeMap<String, u64>> {
    let pods = setting.items(&["pods", "-l", "app=guestbook"])?;
    let count = |pod: &serde_json::Value| {
        pod.pointer("/status/containerStatuses/0/restartCount").and_then(|count| count.as_u64()).unwrap_or(0)
    };
    Ok(pods.iter().map(|pod| (name(pod), count(pod))).collect())
}
