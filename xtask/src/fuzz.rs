//! `cargo xtask fuzz`: builds the fuzzer with coverage counted, and hands over to it.
//!
//! LLVM counts which edges run if it is told to, on stable Rust too (`-C passes=sancov-module`). Only the workspace's crates
//! are told: cargo calls this program in place of the compiler for them (`RUSTC_WORKSPACE_WRAPPER`), so that all other
//! crates, RocksDB among them, are the ones that every build uses.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, exit},
};

use anyhow::{Context as _, Result};

use crate::build::{self, Need, cargo, install_missing, run_visibly};

/// Set for cargo, and so for this program when cargo calls it as the compiler.
const WRAPPER_VARIABLE: &str = "XEBEC_FUZZ_WRAPPER";
const COVERAGE: [&str; 3] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
];
/// Crates that are not counted: what runs while others are built, and the fuzzer itself.
const UNCOUNTED: [&str; 2] = ["build_script_build", "xebec_store_fuzz"];

/// Runs the fuzzer with these arguments; what it reached is kept with the build's other files.
pub fn run(arguments: &[String]) -> Result<()> {
    install_missing(Need::Build)?;
    let this = env::current_exe().context("this program's path")?;
    let mut command = cargo(&["run", "--quiet", "--package", "xebec-store-fuzz", "--"])?;
    command.env("RUSTC_WORKSPACE_WRAPPER", this).env(WRAPPER_VARIABLE, "1").args(arguments);
    let is_campaign = !arguments.iter().any(|argument| ["list", "replay", "--help"].contains(&argument.as_str()));
    if is_campaign && !arguments.iter().any(|argument| argument.starts_with("--corpus")) {
        command.arg("--corpus").arg(build::target_dir().join("fuzz-corpus"));
    }
    run_visibly(&mut command)
}

/// Whether cargo calls this program as the compiler.
pub fn is_compiler_wrapper() -> bool {
    env::var_os(WRAPPER_VARIABLE).is_some()
}

/// Becomes the compiler, which is told to count.
pub fn compile() -> ! {
    let mut words = env::args_os().skip(1);
    let compiler = words.next().unwrap_or_else(|| "rustc".into());
    let words: Vec<OsString> = words.collect();
    let mut command = Command::new(compiler);
    if counts(&words) {
        command.args(COVERAGE);
    }
    let error = command.args(words).env_remove(WRAPPER_VARIABLE).exec();
    eprintln!("error: cannot run the compiler: {error}");
    exit(1);
}

fn counts(words: &[OsString]) -> bool {
    let named = |flag: &str, value: &str| words.windows(2).any(|pair| pair[0] == flag && pair[1] == value);
    let is_crate = words.iter().any(|word| word == "--crate-name");
    is_crate && !named("--crate-type", "proc-macro") && !UNCOUNTED.iter().any(|name| named("--crate-name", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_counted_but_for_those_that_run_at_build_time_and_the_fuzzer() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(counts(&words("--crate-name xebec_store --edition=2024 a.rs")));
        assert!(!counts(&words("--crate-name build_script_build build.rs")));
        assert!(!counts(&words("--crate-name xebec_store_fuzz a.rs")));
        assert!(!counts(&words("--crate-name x --crate-type proc-macro a.rs")));
        assert!(!counts(&words("- --crate-type bin --print cfg")), "cargo asks what the compiler can do");
    }
}
