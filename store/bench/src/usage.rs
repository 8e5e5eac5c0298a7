//! What processes cost, read from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/pid/stat`; fixed on Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// What some processes have used so far, together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu_seconds: f64,
    /// Bytes handed to the disk.
    pub written_bytes: u64,
    /// Resident memory of the largest of them.
    pub resident_bytes: u64,
}

/// Adds up what these processes have used.
///
/// # Errors
/// One of them is gone.
pub fn of(pids: &[u32]) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        sum.cpu_seconds += cpu_seconds(*pid)?;
        sum.written_bytes += field(&format!("/proc/{pid}/io"), "write_bytes:")?;
        sum.resident_bytes = sum.resident_bytes.max(field(&format!("/proc/{pid}/status"), "VmRSS:")? * 1024);
    }
    Ok(sum)
}

impl Usage {
    /// What was used since `before`; memory is not a difference.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
            resident_bytes: self.resident_bytes,
        }
    }
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path}: no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(')').context("no command name")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("short stat");
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
