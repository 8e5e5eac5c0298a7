//! Programs with bugs that can be planted.

use std::path::PathBuf;

use anyhow::Result;

use crate::build::{cargo, run_visibly, target_dir};

/// The features of every build with planted bugs. What is built with one set of features is built once, whatever it is built for;
/// and chosen among the whole workspace, dependencies keep the features they are built with for everything else: only crates that
/// know of bugs, and what stands on them, are compiled again.
pub const FEATURES: [&str; 3] = ["--workspace", "--features", "xebec-store-sim/planted-bugs,xebec-cli/planted-bugs"];

/// Builds the `xebec` that has bugs to plant (`cli/examples/mutable.rs`); `$XEBEC_MUTABLE` names one to use instead.
pub fn mutable() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("XEBEC_MUTABLE") {
        return Ok(binary.into());
    }
    run_visibly(cargo(&["build", "--quiet"])?.args(FEATURES).args(["--example", "mutable"]))?;
    Ok(target_dir().join("debug/examples/mutable"))
}

/// Builds the simulator that has bugs to plant; `$XEBEC_MUTABLE_SIMULATOR` names one to use instead.
pub fn simulator() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("XEBEC_MUTABLE_SIMULATOR") {
        return Ok(binary.into());
    }
    // With the test beside it, development dependencies count, as for everything else that is built here.
    let wanted = ["--test", "planted_bugs", "--bin", "xebec-store-sim"];
    run_visibly(cargo(&["build", "--quiet"])?.args(FEATURES).args(wanted))?;
    Ok(target_dir().join("debug/xebec-store-sim"))
}
