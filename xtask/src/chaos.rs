//! Breaks a store made of this checkout, or any other, and checks what its clients saw.

use std::process::Command;

use anyhow::{Result, bail};
use xebec_chaos::run::{Flags, run_until_signalled};
use xebec_planted::VARIABLE;

use crate::{
    build::{self, Profile},
    mutations,
};

/// A run; builds the store it is to break unless another one was named.
pub fn run(mut flags: Flags) -> Result<()> {
    let own = flags.endpoints.is_empty()
        && flags.etcd.is_none()
        && flags.kubeconfig.is_none()
        && flags.binary.is_none()
        && !flags.runs_nothing();
    if own {
        flags.binary = Some(build::xebec(Profile::Release)?);
    }
    run_until_signalled(flags)
}

/// The same run with a bug planted in it. The bug is told to members and masters by their environment, which they have
/// from a process of its own.
pub fn run_mutated(bug: &str, flags: &Flags) -> Result<()> {
    let elsewhere = !flags.endpoints.is_empty() || flags.kubeconfig.is_some();
    if elsewhere || flags.etcd.is_some() || flags.binary.is_some() {
        bail!("--mutation runs a program of its own");
    }
    let binary = mutations::mutable()?;
    let mut command = Command::new(std::env::current_exe()?);
    let given = std::env::args_os().skip(1);
    let mut skips_next = false;
    let kept = given.filter(|argument| {
        let text = argument.to_string_lossy();
        let skip = std::mem::replace(&mut skips_next, text == "--mutation") || text.starts_with("--mutation");
        !skip
    });
    command.args(kept).arg("--binary").arg(binary).env(VARIABLE, bug);
    build::run_visibly(&mut command)
}
