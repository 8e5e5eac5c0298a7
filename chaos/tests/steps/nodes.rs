//! Steps 4 and 5: nodes come and go.

use anyhow::{Result, ensure};
use xebec_chaos::cluster;

use crate::setting::{Setting, is_ready, name};

pub fn third_node_joins(setting: &Setting) -> Result<()> {
    cluster::join(&setting.cluster, "abcdef.0123456789abcdef").expect_err("a token nobody made opens no door");
    let token = cluster::create_token(&setting.cluster)?;
    let host = cluster::join(&setting.cluster, &token)?;
    let pods_on = |node: &str| -> Result<usize> {
        let field = format!("--field-selector=spec.nodeName={node}");
        Ok(setting.items(&["pods", "-l", "tier=frontend", &field])?.iter().filter(|pod| is_ready(pod)).count())
    };
    setting.kubectl.run(&["scale", "deployment/frontend", "--replicas=6"])?;
    setting.eventually("pods on the third node", || Ok((pods_on(&host.name)? > 0).then_some(())))?;
    setting.kubectl.run(&["rollout", "status", "deployment/frontend", "--timeout=120s"])?;
    Ok(())
}

pub fn node_dies(setting: &Setting) -> Result<()> {
    let victim = setting.cluster.spec.worker(2);
    let doomed: Vec<_> = setting
        .items(&["pods", "-l", "app=guestbook", "--field-selector=spec.nodeName=n2"])?
        .iter()
        .map(name)
        .collect();
    ensure!(!doomed.is_empty(), "there must be pods to lose");
    cluster::kill_worker_host(&setting.cluster, &victim)?;
    setting.eventually("the node to be NotReady", || {
        let node = setting.kubectl.get(&["node", "n2"])?;
        Ok((!is_ready(&node)).then_some(()))
    })?;
    let table = setting.kubectl.run(&["get", "nodes"])?;
    ensure!(table.lines().any(|line| line.starts_with("n2") && line.contains("NotReady")), "{table}");
    setting.eventually("the pods to run elsewhere", || {
        let pods = setting.ready_pods("app=guestbook")?;
        let elsewhere = pods.iter().all(|pod| pod["spec"]["nodeName"] != "n2");
        Ok((pods.len() == 7 && elsewhere).then_some(()))
    })?;
    cluster::start_host(&setting.cluster, &victim)?;
    setting
        .eventually("the node to come back", || Ok(is_ready(&setting.kubectl.get(&["node", "n2"])?).then_some(())))?;
    setting.kubectl.run(&["scale", "deployment/frontend", "--replicas=3"])?;
    Ok(())
}
