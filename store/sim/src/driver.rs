//! Runs many seeds, a process each, and reports.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
#[cfg(feature = "planted-bugs")]
use xebec_planted::PlantedBug;
use xebec_store_sim::simulation::{self, Outcome, Plan};

/// Between two looks at the running processes.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Room for a simulation's stack.
const STACK_BYTES: usize = 64 << 20;
/// A seed that runs longer than this hangs.
const SEED_TIMEOUT: Duration = Duration::from_secs(600);

/// Simulate clusters of the store, from seeds
#[derive(Debug, Parser)]
pub struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed; a failure names the one to replay
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Members of the cluster; every third seed has five otherwise
    #[arg(long)]
    members: Option<usize>,
    /// Simulated milliseconds with faults
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Begin no further seed after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Print every event as it happens, for one seed
    #[arg(long)]
    verbose: bool,
    /// Messages too
    #[arg(long)]
    messages: bool,
    /// Run every seed twice, and fail if not exactly the same happens
    #[arg(long)]
    twice: bool,
    /// Plant a bug (skip-fsync, acknowledge-before-quorum, stale-read, drop-watch-event, forget-lease,
    /// reuse-revision, vote-for-stale-logs); needs the feature planted-bugs
    #[arg(long)]
    plant: Option<String>,
    /// Run one seed in this process and print its outcome as JSON
    #[arg(long, hide = true)]
    one: bool,
}

impl Arguments {
    fn members_of(&self, seed: u64) -> usize {
        self.members.unwrap_or(if seed.is_multiple_of(3) { 5 } else { 3 })
    }

    fn replay(&self, seed: u64) -> String {
        let plant = self.plant.as_ref().map(|bug| format!(" --plant {bug}")).unwrap_or_default();
        let members = self.members.map(|members| format!(" --members {members}")).unwrap_or_default();
        format!("cargo xtask sim --seed {seed} --seeds 1 --steps {}{members}{plant} --verbose", self.steps)
    }
}

/// Runs the seeds.
///
/// # Errors
/// If a seed failed, or could not be run.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.one || arguments.verbose {
        return one(arguments);
    }
    let mut progress = Progress::new(arguments);
    let times = if arguments.twice { 2 } else { 1 };
    let mut next = (arguments.seed, 0);
    let end = arguments.seed + arguments.seeds;
    let mut running: BTreeMap<(u64, u32), (Child, Instant)> = BTreeMap::new();
    loop {
        let in_time = arguments.seconds.is_none_or(|seconds| progress.began.elapsed().as_secs() < seconds);
        let go_on = in_time && (progress.failures == 0 || arguments.keep_going);
        while next.1 > 0 || (go_on && next.0 < end) {
            if running.len() >= arguments.jobs.max(1) {
                break;
            }
            running.insert(next, (spawn(arguments, next.0)?, Instant::now()));
            next = if next.1 + 1 < times { (next.0, next.1 + 1) } else { (next.0 + 1, 0) };
        }
        if running.is_empty() {
            break;
        }
        let finished: Vec<(u64, u32)> = running
            .iter_mut()
            .filter_map(|(run, (child, began))| match child.try_wait() {
                Ok(None) if began.elapsed() < SEED_TIMEOUT => None,
                _ => Some(*run),
            })
            .collect();
        for run in finished {
            if let Some((child, _)) = running.remove(&run) {
                progress.took(arguments, run.0, child)?;
            }
        }
        thread::sleep(LOOK_EVERY);
    }
    progress.end();
    if progress.failures > 0 {
        bail!("{} of {} seeds failed", progress.failures, progress.seeds);
    }
    Ok(())
}

fn spawn(arguments: &Arguments, seed: u64) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--one", "--seed", &seed.to_string(), "--steps", &arguments.steps.to_string()]);
    if let Some(members) = arguments.members {
        command.args(["--members", &members.to_string()]);
    }
    if let Some(bug) = &arguments.plant {
        command.args(["--plant", bug]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start a process for a seed")
}

/// Runs one seed here.
fn one(arguments: &Arguments) -> Result<()> {
    if arguments.verbose {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
        tracing_subscriber::fmt().without_time().with_ansi(false).with_env_filter(filter).init();
    }
    let memory = PathBuf::from("/dev/shm");
    let plan = Plan {
        seed: arguments.seed,
        members: arguments.members_of(arguments.seed),
        millis: arguments.steps,
        verbose: arguments.verbose,
        messages: arguments.messages,
        directory: if memory.is_dir() { memory } else { std::env::temp_dir() },
    };
    let bug = arguments.plant.clone();
    // A thread of its own, which has drawn no randomness yet.
    let run = move || {
        if let Some(bug) = &bug {
            plant(bug)?;
        }
        simulation::run(&plan)
    };
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run)?;
    let outcome = thread.join().map_err(|_| anyhow::anyhow!("the simulation panicked"))??;
    println!("{}", serde_json::to_string(&outcome)?);
    match outcome.violation {
        Some(violation) if arguments.verbose => bail!("seed {}: {violation}", arguments.seed),
        _ => Ok(()),
    }
}

#[cfg(feature = "planted-bugs")]
fn plant(name: &str) -> Result<()> {
    xebec_planted::plant(PlantedBug::named(name).with_context(|| format!("no such bug: {name}"))?);
    Ok(())
}

#[cfg(not(feature = "planted-bugs"))]
fn plant(name: &str) -> Result<()> {
    bail!("{name} cannot be planted: this was built without the feature planted-bugs")
}

struct Progress {
    began: Instant,
    seeds: u64,
    failures: u64,
    total: Outcome,
    /// The hash of each seed's first run.
    hashes: BTreeMap<u64, u32>,
}

impl Progress {
    fn new(arguments: &Arguments) -> Self {
        println!(
            "simulating {} seeds from {}, {} s of faults each",
            arguments.seeds,
            arguments.seed,
            arguments.steps / 1_000
        );
        Self { began: Instant::now(), seeds: 0, failures: 0, total: Outcome::default(), hashes: BTreeMap::new() }
    }

    fn took(&mut self, arguments: &Arguments, seed: u64, mut child: Child) -> Result<()> {
        if child.try_wait()?.is_none() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome = text.lines().last().and_then(|line| serde_json::from_str::<Outcome>(line).ok());
        self.seeds += 1;
        match outcome {
            Some(outcome) => self.add(arguments, outcome),
            None => {
                self.failures += 1;
                println!("\nseed {seed} ended without an outcome ({}):", output.status);
                println!("{}", String::from_utf8_lossy(&output.stderr));
                println!("replay: {}", arguments.replay(seed));
            }
        }
        self.show();
        Ok(())
    }

    fn add(&mut self, arguments: &Arguments, outcome: Outcome) {
        let first = *self.hashes.entry(outcome.seed).or_insert(outcome.trace_hash);
        if first != outcome.trace_hash {
            self.failures += 1;
            println!("\nseed {} does not replay: {first:08x}, then {:08x}", outcome.seed, outcome.trace_hash);
            println!("compare two outputs of: {} --messages", arguments.replay(outcome.seed));
        }
        let total = &mut self.total;
        total.changes += outcome.changes;
        total.farewells += outcome.farewells;
        total.operations += outcome.operations;
        total.faults += outcome.faults;
        total.refusals += outcome.refusals;
        total.refused_for_space += outcome.refused_for_space;
        total.read_without_space += outcome.read_without_space;
        total.elections += outcome.elections;
        total.states_compared += outcome.states_compared;
        total.entries += outcome.entries;
        total.messages += outcome.messages;
        total.millis += outcome.millis;
        if let Some(violation) = &outcome.violation {
            self.failures += 1;
            println!("\nseed {} failed after {:.1} s\n", outcome.seed, self.began.elapsed().as_secs_f64());
            outcome.tail.iter().for_each(|line| println!("  {line}"));
            println!("\nviolated: {violation}\nreplay: {}\n", arguments.replay(outcome.seed));
        }
    }

    fn line(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64().max(0.001);
        let hours = self.total.millis as f64 / 3_600_000.0;
        format!(
            "{} seeds ({} failed), {} operations, {} entries, {} messages, {} faults, {} elections, {} membership changes, {} removed members turned away, {} refusals, {} writes refused and {} reads answered without space, {} states compared, {:.2} simulated hours, {:.0} times real time",
            self.seeds,
            self.failures,
            self.total.operations,
            self.total.entries,
            self.total.messages,
            self.total.faults,
            self.total.elections,
            self.total.changes,
            self.total.farewells,
            self.total.refusals,
            self.total.refused_for_space,
            self.total.read_without_space,
            self.total.states_compared,
            hours,
            hours * 3_600.0 / elapsed
        )
    }

    fn show(&self) {
        if std::io::stdout().is_terminal() {
            print!("\r{}", self.line());
            if let Err(error) = std::io::stdout().flush() {
                tracing::debug!(%error, "cannot flush");
            }
        }
    }

    fn end(&self) {
        println!("\n{}, {:.1} s", self.line(), self.began.elapsed().as_secs_f64());
    }
}
