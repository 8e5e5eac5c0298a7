//! Finds one bug after the other, and prints the table for the docs.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use xebec_planted::PlantedBug;

use super::{
    build,
    hunt::{Found, Hunt, simulate},
    table::{CLEAN, CLEAN_QUICK, MUTATIONS, Mutation, System},
};
use crate::build::{Need, install_missing};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What takes seconds in real processes: part of the tests. Simulations are, too, by themselves.
    Quick,
    /// Every run and every simulation.
    All,
}

/// Shows that the bugs are found: prints the table for the docs. `only` names a single bug.
///
/// # Errors
/// A bug is not found, or something is without a bug.
pub fn run(extent: Extent, only: Option<&str>) -> Result<()> {
    install_missing(Need::Build)?;
    let wanted = |mutation: &&Mutation| match only {
        Some(name) => mutation.bug.name() == name,
        None => extent == Extent::All || mutation.is_quick,
    };
    let chosen: Vec<&Mutation> = MUTATIONS.iter().filter(wanted).collect();
    let names = PlantedBug::ALL.map(PlantedBug::name).join(", ");
    ensure!(!chosen.is_empty(), "there is no bug of that name: {names}");
    let hunt = Hunt::new(build::mutable()?, extent == Extent::All);
    if only.is_none() {
        for clean in if extent == Extent::All { CLEAN } else { CLEAN_QUICK } {
            let found = told(&format!("no bug, {}", clean.workloads), || hunt.run(None, &clean, 1))?;
            ensure!(found.is_none(), "without any bug, {} is violated", found.map_or(String::new(), |found| found.by));
        }
    }
    let mut lines = Vec::new();
    let mut missed = Vec::new();
    for mutation in &chosen {
        let found = told(mutation.bug.name(), || hunt.find(mutation))?;
        if found.is_none() {
            missed.push(mutation.bug.name());
        }
        lines.push(line(mutation, found.as_ref()));
    }
    if extent == Extent::All {
        let simulator = build::simulator()?;
        for (mutation, line) in chosen.iter().zip(&mut lines) {
            let work = || simulate(&simulator, mutation.bug);
            let simulated = mutation.is_simulated.then(|| told(mutation.bug.name(), work));
            *line += &format!(" {} |", simulated.transpose()?.unwrap_or_default());
        }
    }
    let more = if extent == Extent::All { [" simulator: seeds, seconds |", "---|"] } else { ["", ""] };
    println!("| bug | workloads | faults | violated | seconds until its history shows it |{}", more[0]);
    println!("|---|---|---|---|---|{}", more[1]);
    lines.iter().for_each(|line| println!("{line}"));
    if !missed.is_empty() {
        bail!("not found: {}", missed.join(", "));
    }
    Ok(())
}

/// Does it, and says how long it took.
fn told<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprint!("{what}: ");
    let begun = Instant::now();
    let done = work();
    eprintln!("{:.0} s in all", begun.elapsed().as_secs_f64());
    done
}

/// A row of the table, up to what simulations say.
fn line(mutation: &Mutation, found: Option<&Found>) -> String {
    let Mutation { bug, about, run, .. } = mutation;
    let on = if run.system == System::Plane { "control plane: " } else { "" };
    let (by, seconds) = match found {
        Some(found) => (found.by.as_str(), format!("{:.1}", found.seconds)),
        None => ("NOT FOUND", String::new()),
    };
    format!("| `{}`: {about} | {on}{} | {} | {by} | {seconds} |", bug.name(), run.workloads, run.faults)
}
