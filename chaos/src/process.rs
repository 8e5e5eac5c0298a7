//! Processes that outlive the command that started them, known by pid and start time, so that a pid used again by a
//! stranger is never mistaken for one of ours.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// How often a wait looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A process gets this long to end by itself before it is killed.
const TERMINATION_GRACE: Duration = Duration::from_secs(10);

/// A command to start on a host.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The network namespace it lives in; the machine's own without one.
    pub network_namespace: Option<String>,
    /// Extra environment.
    pub env: Vec<(String, String)>,
}

/// A place for one long-running process: its record and its log are files beside each other.
#[derive(Clone, Debug)]
pub struct Slot {
    record: PathBuf,
    log: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    pid: i32,
    start_ticks: u64,
}

impl Slot {
    /// The process called `name` under `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { record: dir.join(format!("{name}.pid")), log: dir.join(format!("{name}.log")) }
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The pid, if the process runs.
    pub fn pid(&self) -> Option<i32> {
        let record: Record = serde_json::from_str(&fs::read_to_string(&self.record).ok()?).ok()?;
        (start_ticks(record.pid) == Some(record.start_ticks)).then_some(record.pid)
    }

    /// Starts the process unless it runs already; whether it had to.
    ///
    /// # Errors
    /// The command cannot be started, or its record not be written.
    pub fn start(&self, launch: &Launch) -> Result<bool> {
        if self.pid().is_some() {
            return Ok(false);
        }
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        // setsid and nsenter both exec in place, so the child's pid is the program's. Only the network namespace is
        // entered: mounts must be seen by container runtime and node agent alike.
        let mut command = Command::new("setsid");
        if let Some(namespace) = &launch.network_namespace {
            command.arg("nsenter").arg(format!("--net=/run/netns/{namespace}"));
        }
        let child = command
            .args(&launch.argv)
            .envs(launch.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", launch.argv.join(" ")))?;
        let pid = i32::try_from(child.id())?;
        let start_ticks = start_ticks(pid).with_context(|| format!("{} ended at once", launch.argv[0]))?;
        fs::write(&self.record, serde_json::to_vec(&Record { pid, start_ticks })?)?;
        Ok(true)
    }

    /// Fails, with the end of its log, if the process has ended.
    ///
    /// # Errors
    /// The process does not run.
    pub fn ensure_running(&self) -> Result<()> {
        if self.pid().is_some() {
            return Ok(());
        }
        bail!("{} ended; its last words:\n{}", self.log.display(), last_lines(&self.log, 15))
    }

    /// Sends a signal; nothing happens if the process does not run.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match self.pid() {
            Some(pid) => send(pid, signal),
            None => Ok(()),
        }
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// The process does not go.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_gone(TERMINATION_GRACE)
    }

    /// Asks the process to end, and kills it if it does not.
    ///
    /// # Errors
    /// The process does not go.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        if self.wait_gone(TERMINATION_GRACE).is_err() {
            self.kill()?;
        }
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn wait_gone(&self, limit: Duration) -> Result<()> {
        wait_for(limit, &format!("{} to end", self.record.display()), || Ok(self.pid().is_none().then_some(())))
    }
}

/// Sends a signal to a pid; a process that is gone already is no error.
///
/// # Errors
/// The signal may not be sent.
pub fn send(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to {pid}")),
    }
}

/// Looks again and again until `probe` has an answer.
///
/// # Errors
/// The time is up, or the probe fails.
pub fn wait_for<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The last lines of a text file.
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// When a process started, in clock ticks since boot (`proc(5)`, `/proc/pid/stat` field 22); a zombie does not count.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: fields are counted from behind the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
