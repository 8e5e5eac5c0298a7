//! The house's rules that a machine can check.

mod dependencies;
mod sizes;
mod sources;

use anyhow::{Result, bail};

use crate::build::{self, cargo, run_visibly};

/// Checks every rule and reports every breach.
pub fn run() -> Result<()> {
    build::install_missing(build::Need::Build)?;
    let mut breaches = Vec::new();
    breaches.extend(dependencies::check()?);
    breaches.extend(sizes::check()?);
    breaches.extend(sources::check()?);
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} rules broken", breaches.len());
    }
    run_visibly(&mut cargo(&["fmt", "--all", "--check"])?)?;
    run_visibly(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?)?;
    println!("tidy");
    Ok(())
}
