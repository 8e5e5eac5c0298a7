//! One member: a process on a host of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use xebec_chaos_disk::{Disk, Loss};

use super::Hosts;
use crate::{
    cluster::Host,
    delay::Delay,
    etcd::Etcd,
    process::{Launch, Slot},
    shell::run_with_input,
};

/// The table of ours that drops packets in a member's namespace.
const TABLE: &str = "xebec_chaos";

/// A member that the run started.
#[derive(Debug)]
pub struct Member {
    pub(crate) host: Host,
    pub(crate) slot: Slot,
    launch: Mutex<Launch>,
    /// What its data lie on, if the run made it.
    pub(crate) disk: Option<Disk>,
    /// Lateness of what it hears.
    late: Mutex<Option<Delay>>,
}

impl Member {
    /// A member on the machine's own disk, not started yet.
    pub(crate) fn new(host: Host, slot: Slot, launch: Launch) -> Self {
        Self { host, slot, launch: Mutex::new(launch), disk: None, late: Mutex::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Where clients reach it.
    pub fn client_url(&self) -> String {
        format!("http://{}:{}", self.host.address, self.host.ports[1])
    }

    /// Where the other members reach it.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host.address, self.host.ports[2])
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        self.slot.log()
    }

    /// Starts it, if it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<()> {
        let launch = self.launch.lock().expect("nobody panics with it").clone();
        self.slot.start(&launch).map(drop)
    }

    /// Ends it as an operator would.
    ///
    /// # Errors
    /// It does not go.
    pub fn stop(&self) -> Result<()> {
        self.slot.stop()
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<i32> {
        self.slot.pid()
    }

    /// A client of it.
    ///
    /// # Errors
    /// Its URL is none.
    pub fn client(&self) -> Result<Etcd> {
        Etcd::new(&self.client_url()).context("its URL is none")
    }

    /// The program that it runs.
    pub fn program(&self) -> PathBuf {
        self.launch.lock().expect("nobody panics with it").argv[0].clone().into()
    }

    /// From the next start on, it runs this program.
    pub fn runs(&self, program: &Path) {
        self.launch.lock().expect("nobody panics with it").argv[0] = program.display().to_string();
    }

    /// At the next start, it joins a cluster that there is already: of these members, itself included.
    pub fn joins(&self, initial_cluster: &str) {
        let mut launch = self.launch.lock().expect("nobody panics with it");
        launch
            .argv
            .retain(|word| !word.starts_with("--initial-cluster=") && !word.starts_with("--initial-cluster-state="));
        launch.argv.push(format!("--initial-cluster={initial_cluster}"));
        launch.argv.push("--initial-cluster-state=existing".to_owned());
    }

    /// Its data are gone, as on a new host.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        let data = self.data();
        if !data.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&data)? {
            let path = entry?.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        if let Some(disk) = &self.disk {
            disk.sync().context("cannot save the empty disk")?;
        }
        Ok(())
    }

    /// What its wall clock is set by, if the run made it so.
    pub fn clock(&self) -> PathBuf {
        self.host.dir.join("clock")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.slot.signal(signal)
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// It does not go.
    pub fn kill(&self) -> Result<()> {
        self.slot.kill()
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.slot.pid().is_some()
    }

    /// Where its data lie.
    pub fn data(&self) -> PathBuf {
        self.host.dir.join("data")
    }

    /// What its data lie on.
    ///
    /// # Errors
    /// The machine's own disk.
    pub fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("members' data lie on the machine's own disk")
    }

    /// Kills it, and its disk forgets what was not synced.
    ///
    /// # Errors
    /// It does not go, or its disk cannot be taken away and brought back.
    pub fn lose_power(&self, loss: Loss) -> Result<()> {
        self.kill()?;
        self.disk()?.power_loss(loss).with_context(|| format!("power loss of {}", self.name()))
    }

    /// Drops what comes from some of the others: all of it, or so many packets in a hundred.
    ///
    /// # Errors
    /// The packet filter refuses.
    pub fn drop_from(&self, hosts: &Hosts, members: &[usize], percent: u32) -> Result<()> {
        let addresses: Vec<String> =
            members.iter().map(|member| hosts.member(*member).host.address.to_string()).collect();
        let chance = if percent < 100 { format!("numgen random mod 100 < {percent} ") } else { String::new() };
        let rules = format!(
            "add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
 chain input {{
  type filter hook input priority 0
  \
             ip saddr {{ {} }} {chance}drop
 }}
}}
",
            addresses.join(", ")
        );
        self.nft(&rules)
    }

    /// Hears some of the others late.
    ///
    /// # Errors
    /// The packet filter refuses.
    pub fn hear_late(&self, hosts: &Hosts, members: &[usize], mean: std::time::Duration) -> Result<()> {
        let namespace = self.host.network_namespace.as_deref().context("members share one network: nothing to slow")?;
        let from = members.iter().map(|member| hosts.member(*member).host.address).collect();
        let delay = Delay::start(namespace, from, mean)?;
        *self.late.lock().expect("nobody panics with it") = Some(delay);
        Ok(())
    }

    /// Hears everybody in time again.
    pub fn hear_in_time(&self) {
        drop(self.late.lock().expect("nobody panics with it").take());
    }

    /// Lets everything through again.
    ///
    /// # Errors
    /// The packet filter refuses.
    pub fn hear_all(&self) -> Result<()> {
        self.nft(&format!("add table inet {TABLE}\ndelete table inet {TABLE}\n"))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let namespace = self.host.network_namespace.as_deref().context("members share one network: nothing to cut")?;
        run_with_input("ip", &["netns", "exec", namespace, "nft", "-f", "-"], rules).map(drop)
    }
}
