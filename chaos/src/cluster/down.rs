//! Taking a cluster down, so that nothing of it is left on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{Cluster, Host, State, network};
use crate::{
    process::{send, wait_for},
    shell,
};

/// Containers and their shims get this long to disappear after SIGKILL.
const CONTAINERS_GONE_LIMIT: Duration = Duration::from_secs(30);

/// Stops everything and removes it, data included.
///
/// # Errors
/// Something does not let itself be removed; what could be is gone.
pub fn down(cluster: &Cluster) -> Result<()> {
    stop(cluster)?;
    let dir = &cluster.spec.dir;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Kills a worker as a power cut would: agent, runtime and containers at once. Its data stays.
///
/// # Errors
/// A process does not go.
pub fn kill_worker_host(cluster: &Cluster, host: &Host) -> Result<()> {
    cluster.component(host).kill()?;
    if !cluster.spec.has_containers() {
        return Ok(());
    }
    cluster.runtime(host).kill()?;
    remove_containers(cluster, host)
}

/// Stops every process, container, mount and namespace of the cluster; its data stays.
pub(super) fn stop(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    let mut numbers = State::load(&spec.dir).ok().flatten().map(|state| state.workers).unwrap_or_default();
    numbers.extend(1..=spec.workers.max(1));
    numbers.sort_unstable();
    numbers.dedup();
    let workers: Vec<_> = numbers.into_iter().map(|number| spec.worker(number)).collect();
    for host in &workers {
        stop_worker(cluster, host)?;
    }
    cluster.balancer().stop()?;
    let masters = spec.masters();
    // Asked all at once: one at a time, the last ones would wait for a quorum that is no more.
    for host in &masters {
        cluster.component(host).signal(Signal::SIGTERM)?;
    }
    for host in &masters {
        cluster.component(host).stop()?;
    }
    for host in masters.iter().chain(&workers) {
        network::remove_host(spec, host)?;
    }
    network::remove_bridge(spec)
}

/// Stops a worker and removes its host and data.
pub(super) fn remove_worker(cluster: &Cluster, host: &Host) -> Result<()> {
    stop_worker(cluster, host)?;
    network::remove_host(&cluster.spec, host)?;
    if host.dir.exists() {
        fs::remove_dir_all(&host.dir).with_context(|| format!("cannot remove {}", host.dir.display()))?;
    }
    Ok(())
}

fn stop_worker(cluster: &Cluster, host: &Host) -> Result<()> {
    cluster.component(host).stop()?;
    if cluster.spec.has_containers() {
        remove_containers(cluster, host)?;
    }
    Ok(())
}

/// Ends the pods of a host without its agent's help: runtime, shims, containers, mounts, cgroups.
fn remove_containers(cluster: &Cluster, host: &Host) -> Result<()> {
    let socket = host.dir.join("containerd.sock");
    cluster.runtime(host).stop()?;
    let cgroups = cgroups(&cluster.cgroup_root(host));
    wait_for(CONTAINERS_GONE_LIMIT, &format!("the containers of {} to end", host.name), || {
        let mut pids = shims(&socket);
        for cgroup in &cgroups {
            collect_pids(cgroup, &mut pids);
        }
        for pid in &pids {
            send(*pid, Signal::SIGKILL)?;
        }
        Ok(pids.is_empty().then_some(()))
    })?;
    for mount in mounts_under(&host.dir)? {
        shell::run("umount", &["--lazy", &mount])?;
    }
    for cgroup in &cgroups {
        remove_cgroup(cgroup);
        // What the clusters' groups lie in goes with the last of them; the kernel keeps it while another is there.
        if let Some(shared) = cgroup.parent() {
            remove_empty(shared);
        }
    }
    let secrets = cluster.memory_dir(host);
    if secrets.exists() {
        fs::remove_dir_all(&secrets).with_context(|| format!("cannot remove {}", secrets.display()))?;
    }
    Ok(())
}

/// The cgroup of a host's pods in every hierarchy (version 1, 2 or hybrid).
fn cgroups(cgroup_root: &str) -> Vec<PathBuf> {
    let hierarchies = Path::new("/sys/fs/cgroup");
    let relative = cgroup_root.trim_start_matches('/');
    let mut candidates = vec![hierarchies.join(relative)];
    if let Ok(entries) = fs::read_dir(hierarchies) {
        candidates.extend(entries.flatten().map(|entry| entry.path().join(relative)));
    }
    candidates.retain(|path| path.is_dir());
    candidates
}

fn collect_pids(cgroup: &Path, pids: &mut Vec<i32>) {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in subdirectories(cgroup) {
        collect_pids(&child, pids);
    }
}

fn remove_cgroup(cgroup: &Path) {
    for child in subdirectories(cgroup) {
        remove_cgroup(&child);
    }
    remove_empty(cgroup);
}

fn remove_empty(cgroup: &Path) {
    if let Err(error) = fs::remove_dir(cgroup) {
        tracing::debug!(cgroup = %cgroup.display(), %error, "cgroup stays");
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// containerd's shims outlive it by design; each names the socket of its containerd.
fn shims(socket: &Path) -> Vec<i32> {
    let socket = socket.to_string_lossy();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.first().is_some_and(|program| program.contains("containerd-shim")) && words.contains(&socket)
        })
        .collect()
}

/// Mount points under a directory, the innermost first.
fn mounts_under(dir: &Path) -> Result<Vec<String>> {
    let prefix = format!("{}/", dir.display());
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut found: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(|point| point.replace("\\040", " "))
        .filter(|point| point.starts_with(&prefix))
        .collect();
    found.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    Ok(found)
}
