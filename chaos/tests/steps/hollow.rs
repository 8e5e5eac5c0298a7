//! The cluster for machines without root or containers.

use std::env;

use anyhow::{Context as _, Result, ensure};
use xebec_chaos::{
    cluster::{self, Cluster, ClusterSpec, Placement},
    process::wait_for,
};

use crate::setting::LIMIT;

/// Ports away from those of `cargo xtask up --hollow`, which may be running.
const BASE_PORT: u16 = 17440;
const NODES: u8 = 3;

pub fn a_deployment_becomes_available() -> Result<()> {
    let binary = env::var_os("XEBEC_BINARY").context("XEBEC_BINARY is not set: run `cargo xtask test`")?;
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::new(ClusterSpec {
        name: "xbhollow".into(),
        dir: dir.path().join("cluster"),
        binary: binary.into(),
        placement: Placement::Loopback { base_port: BASE_PORT },
        workers: 1,
        hollow: Some(NODES),
    });
    let outcome = run(&cluster);
    cluster::down(&cluster)?;
    outcome
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster::up(cluster)?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "deployment", "pretend", "--image=nowhere/nothing:1", "--replicas=9"])?;
    wait_for(LIMIT, "nine pods on hollow nodes", || {
        let deployment = kubectl.get(&["deployment", "pretend"])?;
        Ok((deployment["status"]["availableReplicas"] == 9).then_some(()))
    })?;
    let pods = kubectl.get(&["pods", "-l", "app=pretend"])?;
    let pods = pods["items"].as_array().context("no items")?;
    let nodes: std::collections::BTreeSet<_> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    ensure!(nodes.len() == usize::from(NODES), "pods are spread over every hollow node: {nodes:?}");
    Ok(())
}
