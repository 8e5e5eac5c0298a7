//! Which machine a figure is from.

use std::fs;

use xebec_chaos::shell;

/// Cores, processor and kernel.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_start_matches([' ', '\t', ':']);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = shell::run("uname", &["-r"]).unwrap_or_default();
    format!("{cores} cores {model}, Linux {}", kernel.trim())
}
