//! `cargo xtask sim`: builds the simulator and hands over to it.

use anyhow::Result;

use crate::build::{Need, cargo, install_missing, run_visibly};

/// Runs the simulator with these arguments. Only a run that plants a bug is built with the means to.
pub fn run(arguments: &[String]) -> Result<()> {
    install_missing(Need::Build)?;
    let mut command = cargo(&["run", "--quiet", "--package", "xebec-store-sim"])?;
    if arguments.iter().any(|argument| argument.starts_with("--plant")) {
        command.args(["--features", "planted-bugs"]);
    }
    run_visibly(command.arg("--").args(arguments))
}
