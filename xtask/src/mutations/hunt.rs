//! One bug and the runs that look for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xebec_planted::{PlantedBug, VARIABLE};

use super::table::{Mutation, Run, System};
use crate::build;

/// Chaos seeds that are tried until one finds a bug.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Seconds below which the moment of discovery is not narrowed down.
const PRECISION_SECONDS: f64 = 0.5;
/// The first seed of the simulator, and how many are tried until a bug must be found.
const SIMULATED_SEEDS: (u64, u64) = (200, 40);
/// Simulated milliseconds of each.
const SIMULATED_MILLIS: &str = "12000";

/// How a bug was found.
pub struct Found {
    /// The checks that its history violates.
    pub by: String,
    /// After how long.
    pub seconds: f64,
}

/// Chaos runs of one program, which can have bugs.
pub struct Hunt {
    binary: PathBuf,
    folder: PathBuf,
    /// Whether the moment at which a history shows a bug is looked for.
    is_exact: bool,
}

impl Hunt {
    /// Runs of `binary`.
    pub fn new(binary: PathBuf, is_exact: bool) -> Self {
        Self { binary, folder: build::root().join("chaos-runs/mutations"), is_exact }
    }

    /// Tries seeds until a run finds the bug.
    pub fn find(&self, mutation: &Mutation) -> Result<Option<Found>> {
        let mut before = 0.0;
        for seed in SEEDS {
            if let Some(found) = self.run(Some(mutation.bug), &mutation.run, seed)? {
                return Ok(Some(Found { seconds: before + found.seconds, ..found }));
            }
            before += mutation.run.seconds as f64;
        }
        Ok(None)
    }

    /// One chaos run; `None` if everything holds.
    pub fn run(&self, bug: Option<PlantedBug>, run: &Run, seed: u64) -> Result<Option<Found>> {
        let folder = &self.folder;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        // The bug is told to the processes by their environment, which they have from the run's.
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("chaos").arg("--binary").arg(&self.binary).arg("--out").arg(folder).arg("--until-violated");
        command.args(["--time", &format!("{}s", run.seconds), "--seed", &seed.to_string()]);
        command.args(["--workload", run.workloads, "--faults", run.faults]);
        command.args((run.system == System::Plane).then_some("--hollow"));
        command.envs(bug.map(|bug| (VARIABLE, bug.name())));
        let output = command.output().context("cannot start a chaos run")?;
        let Some(left) = fs::read_dir(folder).ok().and_then(|mut runs| runs.next()) else {
            bail!("the chaos run left nothing: {}", String::from_utf8_lossy(&output.stderr));
        };
        let left = left?.path();
        let violated = match violated(&left) {
            Ok(violated) => violated,
            Err(error) => bail!("{error:#}: {}", String::from_utf8_lossy(&output.stderr)),
        };
        if violated.is_empty() {
            ensure!(output.status.success(), "the chaos run failed: {}", String::from_utf8_lossy(&output.stderr));
            return Ok(None);
        }
        let lines = read(&left)?;
        let seconds = if self.is_exact { narrow_down(&left, &lines)? } else { end(&lines) };
        Ok(Some(Found { by: violated.join(", "), seconds }))
    }
}

/// The checks that a judged run violates.
fn violated(run: &Path) -> Result<Vec<String>> {
    let path = run.join("verdicts.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Value = serde_json::from_str(&text)?;
    let verdicts = results["verdicts"].as_array().context("verdicts are a list")?;
    let bad = verdicts.iter().filter(|verdict| verdict["outcome"] == "violated");
    let names = bad.filter_map(|verdict| Some(verdict["checker"].as_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.dedup();
    Ok(names)
}

/// The lines of a run's history, and when each was written; the header comes first.
fn read(run: &Path) -> Result<Vec<(f64, String)>> {
    let text = fs::read_to_string(run.join("history.jsonl")).context("cannot read the history")?;
    Ok(text.lines().map(|line| (seconds_of(line), line.to_owned())).collect())
}

fn seconds_of(line: &str) -> f64 {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    event["time"].as_f64().unwrap_or(0.0) / Duration::from_secs(1).as_nanos() as f64
}

fn end(lines: &[(f64, String)]) -> f64 {
    lines.iter().map(|(at, _)| *at).fold(0.0, f64::max)
}

/// After how many seconds the history of a run that violates something already did.
fn narrow_down(run: &Path, lines: &[(f64, String)]) -> Result<f64> {
    let (mut low, mut high) = (0.0, end(lines));
    let part = run.join("part");
    while high - low > PRECISION_SECONDS {
        let middle = f64::midpoint(low, high);
        fs::create_dir_all(&part)?;
        let kept: Vec<&str> = lines.iter().filter(|(at, _)| *at <= middle).map(|(_, line)| line.as_str()).collect();
        fs::write(part.join("history.jsonl"), kept.join("\n") + "\n")?;
        let output = Command::new(std::env::current_exe()?).args(["chaos", "--judge"]).arg(&part).output()?;
        match output.status.success() || violated(&part)?.is_empty() {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(high)
}

/// Simulates until the bug is found: how many seeds, and how many seconds.
pub fn simulate(simulator: &Path, bug: PlantedBug) -> Result<String> {
    let (first, count) = SIMULATED_SEEDS;
    let begun = Instant::now();
    let mut command = Command::new(simulator);
    command.args(["--seeds", &count.to_string(), "--seed", &first.to_string(), "--steps", SIMULATED_MILLIS]);
    let output = command.args(["--plant", bug.name()]).output().context("cannot simulate")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find(|line| line.starts_with("seed "));
    let promise = text.lines().find_map(|line| line.strip_prefix("violated: ")?.split(':').next());
    match found.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()) {
        Some(seed) => {
            let (seeds, seconds) = (seed + 1 - first, begun.elapsed().as_secs_f64());
            Ok(format!("{seeds}, {seconds:.0}: {}", promise.unwrap_or("a seed ended early")))
        }
        None => bail!("{} is not found in simulations: {text}", bug.name()),
    }
}
