//! Plants bugs in the store on purpose and shows that they are found: in simulations, and by chaos runs with real
//! processes. Both are built apart, with a feature that the product refuses to compile with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::build::{self, Need, cargo, install_missing, run_visibly};

/// The variable that plants a bug in a store that was built for it (`store/server/examples/store.rs`).
pub const PLANTED: &str = "XEBEC_PLANTED_BUG";
/// Chaos seeds that are tried until one finds a bug.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Seconds below which the moment of discovery is not narrowed down.
const PRECISION_SECONDS: f64 = 0.5;
/// Seeds of the simulator until a bug must be found.
const SIMULATED_SEEDS_MAX: &str = "40";

/// A bug, and the chaos run that finds it.
struct Mutation {
    bug: &'static str,
    about: &'static str,
    chaos: Chaos,
    is_simulated: bool,
}

enum Chaos {
    /// These workloads find it under these faults in this time.
    Finds { workloads: &'static str, faults: &'static str, seconds: u64, is_quick: bool },
    /// Why no chaos run can.
    Cannot(&'static str),
}

const MUTATIONS: [Mutation; 9] = [
    Mutation {
        bug: "acknowledge-before-quorum",
        about: "answers before a majority has it on disk",
        chaos: Chaos::Finds { workloads: "register,set,append", faults: "leader-alone", seconds: 30, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "skip-fsync",
        about: "reports entries as flushed without an fsync",
        chaos: Chaos::Finds { workloads: "register,set,append", faults: "power-loss-all", seconds: 40, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "ignore-fence",
        about: "takes a fence in a transaction for true",
        chaos: Chaos::Finds { workloads: "lock,election", faults: "none", seconds: 25, is_quick: true },
        is_simulated: false,
    },
    Mutation {
        bug: "drop-watch-event",
        about: "keeps an event in fifty from watchers",
        chaos: Chaos::Finds { workloads: "register,watch", faults: "none", seconds: 12, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "reuse-revision",
        about: "gives the last revision away again after a restart",
        chaos: Chaos::Finds { workloads: "register,set,watch", faults: "kill-leader", seconds: 30, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "vote-for-stale-logs",
        about: "votes for whoever asks, whatever its log, whoever leads",
        chaos: Chaos::Finds { workloads: "register,set,append", faults: "bridge,halves", seconds: 45, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "stale-read",
        about: "serves reads as if it had an endless lease on leading",
        chaos: Chaos::Finds { workloads: "register", faults: "leader-alone", seconds: 30, is_quick: true },
        is_simulated: true,
    },
    Mutation {
        bug: "forget-lease",
        about: "a new leader overlooks a lease",
        chaos: Chaos::Finds { workloads: "lease", faults: "kill-leader", seconds: 75, is_quick: false },
        is_simulated: true,
    },
    Mutation {
        bug: "forget-binding-precondition",
        about: "binds a pod without looking whether it is bound",
        chaos: Chaos::Cannot("a bug of the API server, which has no mutations yet"),
        is_simulated: false,
    },
];

/// How a bug was found.
struct Found {
    by: String,
    seconds: f64,
}

/// Shows that the bugs are found: prints the table for the docs. `is_quick` leaves out the slow chaos runs and all
/// simulations (which `xebec-store-sim`'s own tests do); `only` names a single bug.
pub fn run(is_quick: bool, only: Option<&str>) -> Result<()> {
    install_missing(Need::Build)?;
    let chosen: Vec<&Mutation> =
        MUTATIONS.iter().filter(|mutation| only.is_none_or(|only| only == mutation.bug)).collect();
    ensure!(!chosen.is_empty(), "there is no bug of that name: {}", MUTATIONS.map(|mutation| mutation.bug).join(", "));
    let store = mutable_store()?;
    let folder = build::root().join("chaos-runs/mutations");
    let mut lines = Vec::new();
    let mut missed = Vec::new();
    if only.is_none() {
        // Nothing planted, nothing found: otherwise what is found below would say nothing.
        let clean = chaos(
            &store,
            "",
            "register,set,append,lock,election,watch,lease",
            "kill-leader,leader-alone",
            30,
            1,
            &folder,
        )?;
        ensure!(clean.is_none(), "without any bug, {} is violated", clean.map_or(String::new(), |found| found.by));
    }
    for mutation in chosen {
        eprintln!("{}: {}", mutation.bug, mutation.about);
        let in_chaos = match &mutation.chaos {
            Chaos::Finds { is_quick: false, .. } if is_quick => None,
            Chaos::Finds { workloads, faults, seconds, .. } => {
                let found = find(&store, mutation.bug, workloads, faults, *seconds, &folder)?;
                if found.is_none() {
                    missed.push(mutation.bug);
                }
                Some(found.map_or("NOT FOUND | |".to_owned(), |found| {
                    format!("{} | {faults} | {:.1}", found.by, found.seconds)
                }))
            }
            Chaos::Cannot(why) => Some(format!("{why} | | ")),
        };
        let simulated = match mutation.is_simulated && !is_quick {
            true => simulate(mutation.bug)?,
            false => "".to_owned(),
        };
        if let Some(in_chaos) = in_chaos {
            lines.push(format!("| `{}`: {} | {in_chaos} | {simulated} |", mutation.bug, mutation.about));
        }
    }
    println!(
        "| bug | chaos: found by | under faults | seconds until its history shows it | simulator: seeds, seconds |"
    );
    println!("|---|---|---|---|---|");
    lines.iter().for_each(|line| println!("{line}"));
    if !missed.is_empty() {
        bail!("not found: {}", missed.join(", "));
    }
    Ok(())
}

/// Builds the store that has bugs to plant; `$XEBEC_MUTABLE_STORE` names one to use instead.
pub fn mutable_store() -> Result<PathBuf> {
    if let Some(store) = std::env::var_os("XEBEC_MUTABLE_STORE") {
        return Ok(store.into());
    }
    // Chosen among the whole workspace, dependencies keep the features they are built with for everything else; and what the
    // simulator's tests with planted bugs are built of is built already.
    run_visibly(&mut cargo(&[
        "build",
        "--workspace",
        "--quiet",
        "--features",
        "xebec-store-sim/planted-bugs",
        "--example",
        "store",
    ])?)?;
    Ok(build::target_dir().join("debug/examples/store"))
}

/// Tries seeds until a run finds the bug.
fn find(store: &Path, bug: &str, workloads: &str, faults: &str, seconds: u64, folder: &Path) -> Result<Option<Found>> {
    let mut before = 0.0;
    for seed in SEEDS {
        if let Some(found) = chaos(store, bug, workloads, faults, seconds, seed, folder)? {
            return Ok(Some(Found { seconds: before + found.seconds, ..found }));
        }
        before += seconds as f64;
    }
    Ok(None)
}

/// One chaos run; `None` if everything holds.
fn chaos(
    store: &Path,
    bug: &str,
    workloads: &str,
    faults: &str,
    seconds: u64,
    seed: u64,
    folder: &Path,
) -> Result<Option<Found>> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("chaos").arg("--etcd").arg(store).arg("--out").arg(folder);
    command.args(["--time", &format!("{seconds}s"), "--seed", &seed.to_string()]);
    command.args(["--workload", workloads, "--faults", faults]);
    if !bug.is_empty() {
        command.env(PLANTED, bug);
    }
    let output = command.output().context("cannot start a chaos run")?;
    let Some(run) = fs::read_dir(folder).ok().and_then(|mut runs| runs.next()) else {
        bail!("the chaos run left nothing: {}", String::from_utf8_lossy(&output.stderr));
    };
    let run = run?.path();
    let violated = violated(&run)?;
    if violated.is_empty() {
        ensure!(output.status.success(), "the chaos run failed: {}", String::from_utf8_lossy(&output.stderr));
        return Ok(None);
    }
    let seconds = narrow_down(&run)?;
    Ok(Some(Found { by: violated.join(", "), seconds }))
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

/// After how many seconds the history of a run that violates something already did.
fn narrow_down(run: &Path) -> Result<f64> {
    let text = fs::read_to_string(run.join("history.jsonl")).context("cannot read the history")?;
    let lines: Vec<(f64, &str)> = text.lines().map(|line| (seconds_of(line), line)).collect();
    let (mut low, mut high) = (0.0, lines.iter().map(|(at, _)| *at).fold(0.0, f64::max));
    let part = run.join("part");
    while high - low > PRECISION_SECONDS {
        let middle = f64::midpoint(low, high);
        fs::create_dir_all(&part)?;
        let kept: Vec<&str> = lines.iter().filter(|(at, _)| *at <= middle).map(|(_, line)| *line).collect();
        fs::write(part.join("history.jsonl"), kept.join("\n") + "\n")?;
        let output = Command::new(std::env::current_exe()?).args(["chaos", "--judge"]).arg(&part).output()?;
        match output.status.success() || violated(&part)?.is_empty() {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(high)
}

/// When a line of a history was written; the header comes first.
fn seconds_of(line: &str) -> f64 {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    event["time"].as_f64().unwrap_or(0.0) / Duration::from_secs(1).as_nanos() as f64
}

/// Simulates until the bug is found: how many seeds, and how many seconds.
fn simulate(bug: &str) -> Result<String> {
    let arguments = ["--seeds", SIMULATED_SEEDS_MAX, "--seed", "200", "--steps", "12000", "--plant", bug];
    let began = Instant::now();
    let output = crate::sim::command(&arguments.map(str::to_owned))?.output().context("cannot simulate")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find(|line| line.starts_with("seed "));
    let promise = text.lines().find_map(|line| line.strip_prefix("violated: ")?.split(':').next());
    match found.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()) {
        Some(seed) => {
            let (seeds, seconds) = (seed - 199, began.elapsed().as_secs_f64());
            Ok(format!("{seeds}, {seconds:.0}: {}", promise.unwrap_or("a seed ended early")))
        }
        None => bail!("{bug} is not found in simulations: {text}"),
    }
}
