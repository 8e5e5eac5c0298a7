//! A member may not open files, or has too little memory.

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng};

use super::{Deed, Scene};
use crate::{
    shell,
    stores::{Hosts, Member},
};

/// Files that a limited member may open beyond those that are open.
const FILES_LEFT: u64 = 3;
/// MiB that a limited member may take beyond what it has.
const MEMORY_LEFT_MIB: std::ops::Range<u32> = 1..8;

/// A member's limits are lowered while it runs; if it dies of that, it is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose.
    pub member: usize,
    kind: Kind,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `RLIMIT_NOFILE`; what it was.
    Files(Option<String>),
    /// A memory cgroup of its own: MiB beyond what it has.
    Memory(u32),
}

/// The leader's files: clients and peers cannot connect, segments cannot be opened.
pub(super) fn files(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Limit(Limit { member: scene.leader_or_any(rng), kind: Kind::Files(None), outcome: String::new() })
}

/// A member's memory.
pub(super) fn memory(scene: Scene, rng: &mut StdRng) -> Deed {
    let member = rng.random_range(0..scene.members);
    Deed::Limit(Limit { member, kind: Kind::Memory(rng.random_range(MEMORY_LEFT_MIB)), outcome: String::new() })
}

impl Limit {
    pub(super) fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        let pid = member.pid().with_context(|| format!("{} does not run", member.name()))?;
        match &mut self.kind {
            Kind::Files(before) => {
                let open = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
                *before = Some(files_limit(pid)?);
                limit_files(pid, &(open + FILES_LEFT).to_string())
            }
            Kind::Memory(more) => {
                let group = Group::of(hosts, member)?;
                // What the process has already stays on the account of the group that it came from.
                group.make(u64::from(*more) << 20)?;
                group.take_in(pid)
            }
        }
    }

    pub(super) fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        let pid = member.pid();
        match (&self.kind, pid) {
            (Kind::Files(Some(before)), Some(pid)) => limit_files(pid, before)?,
            (Kind::Files(_), _) => {}
            (Kind::Memory(_), _) => Group::of(hosts, member)?.remove(pid)?,
        }
        if pid.is_none() {
            self.outcome = ", it died".to_owned();
        }
        member.start()
    }
}

/// The soft limit.
fn files_limit(pid: i32) -> Result<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    line.split_whitespace().nth(3).map(str::to_owned).context("no limit of open files")
}

fn limit_files(pid: i32, soft: &str) -> Result<()> {
    shell::run("prlimit", &[&format!("--pid={pid}"), &format!("--nofile={soft}:")]).map(drop)
}

/// A memory cgroup, of version 1 or 2.
struct Group {
    parent: PathBuf,
    name: String,
    limit_file: &'static str,
}

/// Where memory is limited on this machine: version 1 or 2 of cgroups.
fn memory_root() -> Option<(PathBuf, &'static str)> {
    let one = PathBuf::from("/sys/fs/cgroup/memory");
    if one.join("memory.limit_in_bytes").exists() {
        return Some((one, "memory.limit_in_bytes"));
    }
    let two = PathBuf::from("/sys/fs/cgroup");
    let controllers = fs::read_to_string(two.join("cgroup.subtree_control")).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory").then_some((two, "memory.max"))
}

/// Whether this process may limit memory.
pub(super) fn can_limit_memory() -> bool {
    nix::unistd::geteuid().is_root() && memory_root().is_some()
}

impl Group {
    fn of(hosts: &Hosts, member: &Member) -> Result<Self> {
        let (parent, limit_file) = memory_root().context("no cgroups limit memory here")?;
        Ok(Self { parent, name: format!("{}-{}", hosts.name(), member.name()), limit_file })
    }

    fn make(&self, limit_bytes: u64) -> Result<()> {
        let dir = self.parent.join(&self.name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join(self.limit_file), limit_bytes.to_string()).context("cannot limit memory")
    }

    fn take_in(&self, pid: i32) -> Result<()> {
        fs::write(self.parent.join(&self.name).join("cgroup.procs"), pid.to_string()).context("cannot limit memory")
    }

    /// Its process goes back to where it came from.
    fn remove(&self, pid: Option<i32>) -> Result<()> {
        let dir = self.parent.join(&self.name);
        if !dir.exists() {
            return Ok(());
        }
        if let Some(pid) = pid {
            fs::write(dir.join(self.limit_file), "-1").or_else(|_| fs::write(dir.join(self.limit_file), "max"))?;
            fs::write(self.parent.join("cgroup.procs"), pid.to_string())?;
        }
        crate::process::wait_for(std::time::Duration::from_secs(5), "an empty cgroup", || Ok(fs::remove_dir(&dir).ok()))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "m{}", self.member + 1)?;
        if let Kind::Memory(more) = &self.kind {
            write!(out, " to {more} MiB more than it has")?;
        }
        write!(out, "{}", self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_limited_while_it_runs() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let before = files_limit(pid).unwrap();
        limit_files(pid, "7").unwrap();
        assert_eq!(files_limit(pid).unwrap(), "7");
        limit_files(pid, &before).unwrap();
        assert_eq!(files_limit(pid).unwrap(), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
