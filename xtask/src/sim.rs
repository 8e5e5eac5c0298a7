//! `cargo xtask sim`: builds the simulator and hands over to it.

use std::process::Command;

use anyhow::Result;

use crate::{
    build::{Need, cargo, install_missing, run_visibly},
    mutations,
};

/// Runs the simulator with these arguments. Only a run that plants a bug is built with the means to.
pub fn run(arguments: &[String]) -> Result<()> {
    install_missing(Need::Build)?;
    let plants = arguments.iter().any(|argument| argument.starts_with("--plant"));
    let mut command = match plants {
        true => Command::new(mutations::simulator()?),
        false => cargo(&["run", "--quiet", "--package", "xebec-store-sim", "--"])?,
    };
    run_visibly(command.args(arguments))
}
