//! What the system knows of this process, as Prometheus' own clients report it (`process_*`).

use std::fs;

use crate::exposition::Exposition;

/// Clock ticks of `/proc` in a second: fixed in Linux' interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes in a page of `/proc/self/stat`.
const PAGE_BYTES: f64 = 4096.0;
/// Places of fields in `/proc/self/stat` behind the command, counted from 0 (proc(5), fields 14, 15, 22, 23, 24).
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// Adds what can be read; on other systems nothing.
pub(crate) fn expose(out: &mut Exposition) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |place: usize| fields.get(place).copied();
    if let (Some(user), Some(system)) = (field(USER_TICKS), field(SYSTEM_TICKS)) {
        let seconds = (user + system) / TICKS_PER_SECOND;
        out.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", seconds);
    }
    if let Some(bytes) = field(VIRTUAL_BYTES) {
        out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes);
    }
    if let Some(pages) = field(RESIDENT_PAGES) {
        out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", pages * PAGE_BYTES);
    }
    let booted = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(booted), Some(ticks)) = (booted, field(START_TICKS)) {
        let help = "Start time of the process since unix epoch in seconds.";
        out.gauge("process_start_time_seconds", help, booted + ticks / TICKS_PER_SECOND);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Number of open file descriptors.", open.count());
    }
    let limits = read("/proc/self/limits");
    let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if let Some(max) = max_fds.and_then(|max| max.parse::<u64>().ok()) {
        out.gauge("process_max_fds", "Maximum number of open file descriptors.", max);
    }
}
