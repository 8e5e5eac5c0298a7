//! The store against etcd.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::machine;
use crate::build::{self, Need, Profile};

/// Builds the store and its load generator for people, runs both sides, and prints the table.
pub fn run(against: Option<&Path>, options: &[String]) -> Result<()> {
    if let Some(etcd) = against.filter(|etcd| !etcd.exists()) {
        bail!("{}: no such file; `apt-get install etcd-server` puts one at /usr/bin/etcd", etcd.display());
    }
    build::install_missing(Need::Build)?;
    let xebec = build::xebec(Profile::Release)?;
    let mut command =
        build::cargo(&["run", "--quiet", "--release", "--package", "xebec-store-bench", "--", "--xebec"])?;
    command.arg(xebec);
    if let Some(etcd) = against {
        command.arg("--against").arg(etcd);
    }
    println!("machine: {}", machine::describe());
    if let Some(etcd) = against {
        println!("against: {}", version(etcd)?);
    }
    build::run_visibly(command.args(options))
}

fn version(etcd: &Path) -> Result<String> {
    let output = Command::new(etcd).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
