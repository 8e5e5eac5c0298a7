//! One member: a process on a host of its own.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use xebec_chaos_disk::{Disk, Loss};

use super::Hosts;
use crate::{
    cluster::Host,
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
    pub(crate) launch: Launch,
    /// What its data lie on, if the run made it.
    pub(crate) disk: Option<Disk>,
}

impl Member {
    /// A member on the machine's own disk, not started yet.
    pub(crate) fn new(host: Host, slot: Slot, launch: Launch) -> Self {
        Self { host, slot, launch, disk: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// Where clients reach it.
    pub fn client_url(&self) -> String {
        format!("http://{}:{}", self.host.address, self.host.ports[1])
    }

    /// Its log file.
    pub fn log(&self) -> &std::path::Path {
        self.slot.log()
    }

    /// Starts it, if it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> Result<()> {
        self.slot.start(&self.launch).map(drop)
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
    pub fn data(&self) -> std::path::PathBuf {
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

    /// Drops what comes from some of the others.
    ///
    /// # Errors
    /// The packet filter refuses.
    pub fn drop_from(&self, hosts: &Hosts, members: &[usize]) -> Result<()> {
        let addresses: Vec<String> =
            members.iter().map(|member| hosts.member(*member).host.address.to_string()).collect();
        let rules = format!(
            "add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n chain input {{\n  type filter hook input priority 0\n  \
             ip saddr {{ {} }} drop\n }}\n}}\n",
            addresses.join(", ")
        );
        self.nft(&rules)
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
