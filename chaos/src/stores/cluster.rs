//! Three members on hosts of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use xebec_chaos_disk::{Disk, Names};

use super::{Claim, Hosts, Member};
use crate::{
    cluster::{ClusterSpec, Host, network},
    faults::clock,
    process::{Launch, Slot},
};

/// Which program the members run; both take etcd's flags.
#[derive(Clone, Debug)]
pub enum Program {
    /// `xebec store`.
    Xebec(PathBuf),
    /// A stock etcd.
    Etcd(PathBuf),
}

impl Program {
    fn argv(&self) -> Vec<String> {
        match self {
            Self::Xebec(binary) => vec![binary.display().to_string(), "store".to_owned()],
            Self::Etcd(binary) => vec![binary.display().to_string()],
        }
    }
}

/// Members that the run started; dropping it ends them and removes their hosts and data. Logs stay.
#[derive(Debug)]
pub struct StoreCluster {
    hosts: Hosts,
    /// Held as long as the names and addresses are in use.
    _claim: Claim,
    removed: bool,
}

/// How members are made.
#[derive(Clone, Debug, Default)]
pub struct Making {
    /// Each has its data on a [`Disk`] of its own, which saves names so.
    pub disks: Option<Names>,
    /// Each has a wall clock of its own, by this library.
    pub clocks: Option<PathBuf>,
    /// Another build to move members to and from.
    pub upgrade_to: Option<PathBuf>,
}

impl StoreCluster {
    /// Makes hosts and starts a member on each. Without root, members share the loopback address.
    ///
    /// # Errors
    /// A host cannot be made or a member not be started.
    pub fn start(program: &Program, dir: &Path, making: &Making) -> Result<Self> {
        let claim = Claim::take()?;
        let swept = xebec_chaos_disk::sweep().context("cannot look for disks of dead runs")?;
        tracing::debug!(swept, "disks that a killed run left behind");
        let binary = PathBuf::new();
        let (name, placement) = (claim.name(), claim.placement());
        let spec = ClusterSpec { name, dir: dir.to_owned(), binary, placement, workers: 0, hollow: None };
        let mut cluster = Self { hosts: Hosts::new(spec, Vec::new()), _claim: claim, removed: false };
        network::ensure_bridge(&cluster.hosts.spec)?;
        let hosts = cluster.hosts.spec.masters();
        let peers: Vec<_> =
            hosts.iter().map(|host| format!("{}=http://{}:{}", host.name, host.address, host.ports[2])).collect();
        for host in hosts {
            let member = cluster.make(program, host, making, &peers.join(","))?;
            cluster.hosts.members.push(member);
        }
        let spare = cluster.hosts.spec.spare_master();
        cluster.hosts.spare = Some(cluster.make(program, spare, making, "")?);
        let first = cluster.hosts.members.first().map(Member::program);
        cluster.hosts.programs = first.into_iter().chain(making.upgrade_to.clone()).collect();
        cluster.hosts.members.iter().try_for_each(Member::start)?;
        Ok(cluster)
    }

    fn make(&self, program: &Program, host: Host, making: &Making, initial_cluster: &str) -> Result<Member> {
        fs::create_dir_all(&host.dir).with_context(|| format!("cannot make {}", host.dir.display()))?;
        network::ensure_host(&self.hosts.spec, &host)?;
        let client = format!("http://{}:{}", host.address, host.ports[1]);
        let peer = format!("http://{}:{}", host.address, host.ports[2]);
        let mut argv = program.argv();
        let flags = [
            ("--name", host.name.as_str()),
            ("--data-dir", &host.dir.join("data").display().to_string()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", initial_cluster),
            ("--initial-cluster-token", "xebec-chaos"),
        ];
        argv.extend(flags.iter().map(|(flag, value)| format!("{flag}={value}")));
        let clock = host.dir.join("clock");
        let env = match &making.clocks {
            Some(library) => {
                clock::set_right(&clock)?;
                clock::environment(library, &clock)
            }
            None => Vec::new(),
        };
        let launch = Launch { argv, network_namespace: host.network_namespace.clone(), env };
        let slot = Slot::new(&host.dir, "store");
        let disk = making.disks.map(|names| Disk::mount(&host.dir.join("data"), &host.dir.join("disk"), names));
        let disk = disk.transpose().with_context(|| format!("cannot mount a disk for {}", host.name))?;
        let mut member = Member::new(host, slot, launch);
        member.disk = disk;
        Ok(member)
    }

    /// The hosts that faults break.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Ends the members and removes hosts and data, all of it even if some of it fails.
    ///
    /// # Errors
    /// The first thing that failed.
    pub fn remove(&mut self) -> Result<()> {
        let mut first = Ok(());
        let mut keep = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        let spare = self.hosts.spare.take();
        for member in self.hosts.members.drain(..).chain(spare) {
            member.hear_in_time();
            keep(member.kill());
            if let Some(disk) = &member.disk {
                keep(disk.remove().with_context(|| format!("cannot remove the disk of {}", member.name())));
            }
            if member.clock().exists() {
                keep(fs::remove_file(member.clock()).context("cannot remove a clock"));
            }
            let data = member.data();
            if data.exists() {
                keep(fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display())));
            }
        }
        let spec = &self.hosts.spec;
        for host in spec.masters().into_iter().chain([spec.spare_master()]) {
            keep(network::remove_host(spec, &host));
        }
        self.removed = true;
        keep(network::remove_bridge(&self.hosts.spec));
        first
    }
}

impl Drop for StoreCluster {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.remove()
        {
            tracing::warn!(%error, "the store under test is not gone completely");
        }
    }
}
