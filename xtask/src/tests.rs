//! Every test, in one command.

use anyhow::Result;
use xebec_chaos::preflight;

use crate::{
    build::{self, Need, Profile, cargo, run_visibly},
    mutations,
};

/// Runs the tests of every crate, then the reference cluster with real containers, the chaos runs' disks, a short
/// chaos run, and chaos runs that must find a bug each.
pub fn run(quick: bool) -> Result<()> {
    build::install_missing(Need::Tests)?;
    run_visibly(&mut cargo(&["test", "--workspace", "--quiet"])?)?;
    if quick {
        return Ok(());
    }
    // Apart, since nothing else may be built with it.
    run_visibly(cargo(&["test", "--quiet"])?.args(mutations::FEATURES).args(["--test", "planted_bugs"]))?;
    preflight::check_kernel()?;
    let binary = build::xebec(Profile::Dev)?;
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--features",
        "xebec-chaos/real-hosts",
        "--test",
        "reference_cluster",
        "--test",
        "chaos_run",
        "--test",
        "mounted",
        "--",
        "--nocapture",
        "--test-threads=1",
    ])?;
    command.env("XEBEC_BINARY", binary);
    run_visibly(&mut command)?;
    mutations::run(mutations::Extent::Quick, None)
}
