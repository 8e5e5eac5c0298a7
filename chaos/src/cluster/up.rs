//! Bringing a cluster up: the same steps the first time, after a crash and after a reboot.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use xebec_pki::ClusterAuthorities;

use super::{Cluster, Host, Role, State, Worker, kubeconfig, network, spec::WORKERS_MAX};
use crate::{
    images,
    kubectl::Kubectl,
    preflight,
    process::{Launch, wait_for},
    progress::{Progress, Step},
    shell,
};

/// Masters get this long from start to ready; a loaded machine is slow, not broken.
const MASTERS_READY_LIMIT: Duration = Duration::from_secs(120);
/// A node gets this long from start to ready.
const NODE_READY_LIMIT: Duration = Duration::from_secs(180);

/// Brings the cluster up, or back up, and returns when it is ready.
///
/// # Errors
/// One sentence on what is missing; whatever was started for a cluster that never ran is stopped again.
pub fn up(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    check(cluster)?;
    let first_start = State::load(&spec.dir)?.is_none();
    let result = start(cluster);
    if result.is_err() && first_start && std::env::var_os("XEBEC_KEEP").is_none() {
        // Nothing half-started: what a first start leaves behind nobody could use.
        super::down::stop(cluster).context("and cleaning up failed as well")?;
    }
    result
}

fn check(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    if spec.has_hosts() {
        preflight::check_kernel()?;
    }
    let missing = preflight::missing_packages();
    if spec.has_containers() && !missing.is_empty() {
        bail!("missing Debian packages: apt-get install {}", missing.join(" "));
    }
    if cluster.balancer().pid().is_none() {
        preflight::check_port_free(spec.balancer())?;
    }
    for host in spec.masters().iter().filter(|host| host.network_namespace.is_none()) {
        if cluster.component(host).pid().is_none() {
            for port in host.ports {
                preflight::check_port_free((host.address, port).into())?;
            }
        }
    }
    Ok(())
}

fn start(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    fs::create_dir_all(&spec.dir).with_context(|| format!("cannot create {}", spec.dir.display()))?;
    let mut progress = Progress::new(6);
    let authorities = progress.step("certificates and images", |_| prepare(cluster))?;
    let masters = spec.masters();
    progress.step("masters: hosts and processes", |_| {
        network::ensure_bridge(spec)?;
        for host in &masters {
            network::ensure_host(spec, host)?;
            cluster.start_master(host)?;
        }
        start_balancer(cluster)
    })?;
    progress.step("masters: store elected, API servers ready", |step| {
        masters.iter().try_for_each(|host| wait_master_ready(cluster, host, step))
    })?;
    let entry = progress.step("bootstrap token for nodes", |_| {
        Ok(Worker { token: create_token(cluster)?, ca_hash: authorities.ca_hash()? })
    })?;
    let mut state = State::load(&spec.dir)?.unwrap_or_default();
    if state.workers.is_empty() {
        state.workers = (1..=spec.workers).collect();
    }
    state.save(&spec.dir)?;
    let workers: Vec<_> = state.workers.iter().map(|number| spec.worker(*number)).collect();
    progress.step("nodes: container runtimes and agents", |_| {
        workers.iter().try_for_each(|host| start_worker(cluster, host, &entry))
    })?;
    progress.step("nodes ready", |step| wait_nodes_ready(cluster, spec.nodes(workers.len()), &workers, step))
}

fn prepare(cluster: &Cluster) -> Result<ClusterAuthorities> {
    let spec = &cluster.spec;
    let authorities = ClusterAuthorities::load_or_create(&spec.dir.join("pki"))?;
    for host in spec.masters() {
        fs::create_dir_all(&host.dir)?;
        cluster.prepare_master(&authorities, &host)?;
    }
    if !cluster.kubeconfig().exists() {
        let admin = authorities.issue_client("kubernetes-admin", Some("system:masters"))?;
        let server = format!("https://{}", spec.balancer());
        kubeconfig::write(&cluster.kubeconfig(), &spec.name, &server, authorities.ca_pem(), &admin)?;
    }
    if spec.has_containers() {
        images::build(&spec.dir.join("images"))?;
    }
    Ok(authorities)
}

fn start_balancer(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    let backends: Vec<_> = spec.masters().iter().map(|host| host.api().to_string()).collect();
    let argv = vec![
        spec.binary.display().to_string(),
        "balancer".into(),
        format!("--listen={}", spec.balancer()),
        format!("--backends={}", backends.join(",")),
    ];
    cluster.balancer().start(&Launch { argv, network_namespace: None, env: vec![] }).map(drop)
}

fn start_worker(cluster: &Cluster, host: &Host, entry: &Worker) -> Result<()> {
    network::ensure_host(&cluster.spec, host)?;
    if cluster.spec.has_containers() { cluster.start_worker(host, entry) } else { cluster.start_hollow(host, entry) }
}

/// Starts a host again that was killed; a worker must have joined before.
///
/// # Errors
/// There is no such host, or it does not become ready.
pub fn start_host(cluster: &Cluster, host: &Host) -> Result<()> {
    network::ensure_host(&cluster.spec, host)?;
    match host.role {
        Role::Master => cluster.start_master(host).map(drop),
        Role::Worker => {
            let authorities = ClusterAuthorities::load_or_create(&cluster.spec.dir.join("pki"))?;
            let entry = Worker { token: create_token(cluster)?, ca_hash: authorities.ca_hash()? };
            start_worker(cluster, host, &entry)
        }
    }
}

/// Adds the next worker to a running cluster with a bootstrap token, and returns when it is ready.
///
/// # Errors
/// The cluster does not run, is full, or the node does not become ready (a wrong token, for one).
pub fn join(cluster: &Cluster, token: &str) -> Result<Host> {
    let spec = &cluster.spec;
    if !spec.has_containers() {
        bail!("hollow clusters take no further nodes; start one with more: cargo xtask up --hollow N");
    }
    let Some(mut state) = State::load(&spec.dir)? else { bail!("no cluster is running: cargo xtask up") };
    let number = state.workers.iter().max().copied().unwrap_or(0) + 1;
    if number > WORKERS_MAX {
        bail!("the address plan holds {WORKERS_MAX} workers, and all are taken");
    }
    let host = spec.worker(number);
    let authorities = ClusterAuthorities::load_or_create(&spec.dir.join("pki"))?;
    let entry = Worker { token: token.to_owned(), ca_hash: authorities.ca_hash()? };
    let joined = join_host(cluster, &host, &entry, &mut state);
    if let Err(error) = joined {
        // A host that never got in is no part of the cluster.
        super::down::remove_worker(cluster, &host).context("and cleaning up failed as well")?;
        state.workers.retain(|joined| *joined != number);
        state.save(&spec.dir)?;
        return Err(error);
    }
    Ok(host)
}

fn join_host(cluster: &Cluster, host: &Host, entry: &Worker, state: &mut State) -> Result<()> {
    let mut progress = Progress::new(2);
    progress.step(&format!("{}: host, container runtime and agent", host.name), |_| {
        state.workers.extend(host.number());
        state.save(&cluster.spec.dir)?;
        start_worker(cluster, host, entry)
    })?;
    progress.step(&format!("{} ready", host.name), |step| {
        wait_nodes_ready(cluster, state.workers.len(), std::slice::from_ref(host), step)
    })
}

/// Asks the API for a fresh bootstrap token.
///
/// # Errors
/// The API does not answer.
pub fn create_token(cluster: &Cluster) -> Result<String> {
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
    let binary = cluster.spec.binary.display().to_string();
    Ok(shell::run(&binary, &["token", "create", &kubeconfig])?.trim().to_owned())
}

fn wait_master_ready(cluster: &Cluster, host: &Host, step: &Step) -> Result<()> {
    step.note(&host.name);
    let slot = cluster.component(host);
    let server = format!("--server={}", host.api_url());
    let kubectl = Kubectl::new(&cluster.kubeconfig());
    wait_for(MASTERS_READY_LIMIT, &format!("{} to be ready (log: {})", host.name, slot.log().display()), || {
        slot.ensure_running()?;
        Ok(kubectl.run(&[&server, "--request-timeout=3s", "get", "--raw=/readyz"]).ok().map(drop))
    })
}

fn wait_nodes_ready(cluster: &Cluster, expected: usize, started: &[Host], step: &Step) -> Result<()> {
    let kubectl = cluster.kubectl();
    wait_for(NODE_READY_LIMIT, &format!("{expected} nodes to be ready"), || {
        started.iter().try_for_each(|host| cluster.component(host).ensure_running())?;
        let Ok(nodes) = kubectl.get(&["nodes", "--request-timeout=5s"]) else { return Ok(None) };
        let items = nodes["items"].as_array().cloned().unwrap_or_default();
        let ready = items.iter().filter(|node| is_ready(node)).count();
        step.note(&format!("{ready} of {expected}"));
        Ok((ready >= expected).then_some(()))
    })
}

fn is_ready(node: &serde_json::Value) -> bool {
    node["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
