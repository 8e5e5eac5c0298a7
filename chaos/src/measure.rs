//! What processes cost, read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/pid/stat`; fixed on Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory of a process in MiB (`VmRSS`).
///
/// # Errors
/// The process is gone.
pub fn resident_mib(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Processor time a process has used, user and system together.
///
/// # Errors
/// The process is gone.
pub fn cpu_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(')').context("no command name")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("short stat");
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND))
}
