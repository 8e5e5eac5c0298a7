//! The reference cluster, from the command line.

use std::{env, fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use xebec_chaos::{
    cluster::{self, Cluster, ClusterSpec, Host, Placement, Role, State},
    preflight,
};

use crate::build::{self, Need, Profile};

/// The first port of the loopback cluster.
const LOOPBACK_BASE_PORT: u16 = 16440;
/// Hollow nodes that one process plays at most.
const HOLLOW_NODES_MAX: u8 = 100;

fn reference() -> ClusterSpec {
    ClusterSpec {
        name: "xebec".into(),
        dir: "/var/lib/xebec/cluster".into(),
        binary: PathBuf::new(),
        placement: Placement::Namespaces { subnet: 0 },
        workers: 2,
        hollow: None,
    }
}

fn hollow(nodes: u8) -> ClusterSpec {
    let home = env::var_os("HOME").map_or_else(|| "/tmp".into(), PathBuf::from);
    ClusterSpec {
        name: "xebec-hollow".into(),
        dir: home.join(".local/state/xebec/hollow"),
        binary: PathBuf::new(),
        placement: Placement::Loopback { base_port: LOOPBACK_BASE_PORT },
        workers: 1,
        hollow: Some(nodes),
    }
}

pub fn up(hollow_nodes: Option<u8>) -> Result<()> {
    let mut spec = match hollow_nodes {
        Some(nodes) if !(1..=HOLLOW_NODES_MAX).contains(&nodes) => {
            bail!("--hollow takes 1 to {HOLLOW_NODES_MAX} nodes")
        }
        Some(nodes) => hollow(nodes),
        None if !preflight::is_root() => {
            bail!(
                "the reference cluster makes network namespaces and containers and needs root: use sudo, or start one without containers: cargo xtask up --hollow 2"
            )
        }
        None => reference(),
    };
    build::install_missing(if spec.has_hosts() { Need::Cluster } else { Need::Build })?;
    spec.binary = build::xebec(Profile::Release)?;
    let _lock = lock(&spec)?;
    let cluster = Cluster::new(spec);
    let started = Instant::now();
    cluster::up(&cluster)?;
    eprintln!("ready after {:.1} s\n", started.elapsed().as_secs_f64());
    print_usage(&cluster)
}

fn print_usage(cluster: &Cluster) -> Result<()> {
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("kubectl get nodes -o wide");
    if cluster.spec.has_hosts() {
        println!("kubectl apply -f examples/guestbook/ && kubectl rollout status deployment/frontend");
        println!("cargo xtask join --token {}      # a third node", cluster::create_token(cluster)?);
        println!("cargo xtask host kill m1 && cargo xtask host start m1      # lose a master, get it back");
    }
    println!("cargo xtask down      # stop, and remove everything");
    Ok(())
}

pub fn down() -> Result<()> {
    let mut found = false;
    for spec in [reference(), hollow(1)] {
        if spec.dir.exists() {
            found = true;
            if spec.has_hosts() && !preflight::is_root() {
                bail!("the cluster under {} was started by root; take it down as root", spec.dir.display());
            }
            let lock_held = lock(&spec)?;
            let lock_file = lock_path(&spec);
            cluster::down(&Cluster::new(spec))?;
            fs::remove_file(&lock_file).with_context(|| format!("cannot remove {}", lock_file.display()))?;
            drop(lock_held);
        }
    }
    eprintln!("{}", if found { "the cluster is gone" } else { "no cluster is here" });
    Ok(())
}

pub fn join(token: &str) -> Result<()> {
    let cluster = running()?;
    let _lock = lock(&cluster.spec)?;
    let host = cluster::join(&cluster, token)?;
    println!("{} has joined", host.name);
    Ok(())
}

pub fn list() -> Result<()> {
    let cluster = running()?;
    for host in hosts(&cluster)? {
        let state = cluster.component(&host).pid().map_or_else(|| "stopped".into(), |pid| format!("pid {pid}"));
        println!("{:<4} {:<15} {}", host.name, host.address, state);
    }
    Ok(())
}

pub fn kill(name: &str, whole_host: bool) -> Result<()> {
    let cluster = running()?;
    let host = find(&cluster, name)?;
    if whole_host && host.role == Role::Worker {
        cluster::kill_worker_host(&cluster, &host)?;
    } else {
        cluster.component(&host).kill()?;
    }
    println!("{name} is dead");
    Ok(())
}

pub fn start(name: &str) -> Result<()> {
    let cluster = running()?;
    cluster::start_host(&cluster, &find(&cluster, name)?)?;
    println!("{name} is started");
    Ok(())
}

fn running() -> Result<Cluster> {
    for mut spec in [reference(), hollow(1)] {
        if State::load(&spec.dir)?.is_some() {
            spec.binary = build::xebec(Profile::Release)?;
            return Ok(Cluster::new(spec));
        }
    }
    bail!("no cluster is running: cargo xtask up")
}

fn hosts(cluster: &Cluster) -> Result<Vec<Host>> {
    let state = State::load(&cluster.spec.dir)?.unwrap_or_default();
    let workers = state.workers.iter().map(|number| cluster.spec.worker(*number));
    Ok(cluster.spec.masters().into_iter().chain(workers).collect())
}

fn find(cluster: &Cluster, name: &str) -> Result<Host> {
    let hosts = hosts(cluster)?;
    let names: Vec<_> = hosts.iter().map(|host| host.name.clone()).collect();
    hosts
        .into_iter()
        .find(|host| host.name == name)
        .with_context(|| format!("there is no host {name}; there are {}", names.join(", ")))
}

fn lock_path(spec: &ClusterSpec) -> PathBuf {
    spec.dir.with_file_name(format!("{}.lock", spec.name))
}

/// One command at a time changes a cluster.
fn lock(spec: &ClusterSpec) -> Result<Flock<fs::File>> {
    let path = lock_path(spec);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, _)| anyhow::anyhow!("another `cargo xtask` command is changing this cluster; wait for it"))
}
