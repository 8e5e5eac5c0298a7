//! `cargo xtask sim`: builds the simulator and hands over to it.

use std::process::Command;

use anyhow::Result;

use crate::build::{Need, cargo, install_missing, run_visibly};

/// Runs the simulator with these arguments. Only a run that plants a bug is built with the means to.
pub fn run(arguments: &[String]) -> Result<()> {
    install_missing(Need::Build)?;
    run_visibly(&mut command(arguments)?)
}

/// The command that does.
pub fn command(arguments: &[String]) -> Result<Command> {
    let mut command = cargo(&["run", "--quiet", "--package", "xebec-store-sim"])?;
    if arguments.iter().any(|argument| argument.starts_with("--plant")) {
        command.args(["--features", "planted-bugs"]);
    }
    command.arg("--").args(arguments);
    Ok(command)
}
