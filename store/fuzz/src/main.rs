//! `cargo xtask fuzz`: fuzzes the store's decoders, and replays what was found.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use xebec_store_fuzz::{
    allocation::Counting,
    campaign::{self, INPUT_TIME_MAX},
    findings,
    targets::{Row, targets},
    worker::{self, FOUND_STATUS, Orders},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
#[command(name = "cargo xtask fuzz", about = "Fuzzes every decoder of the store that takes bytes from outside")]
struct Cli {
    #[command(subcommand)]
    command: Option<Action>,
    #[command(flatten)]
    run: RunFlags,
}

#[derive(Subcommand)]
enum Action {
    /// What can be fuzzed
    List,
    /// Runs inputs that were found once, each in a process of its own: all that are kept, or those given
    Replay {
        /// The target of the files given
        #[arg(long, requires = "files")]
        target: Option<String>,
        /// Files as campaigns leave them
        #[arg(requires = "target")]
        files: Vec<PathBuf>,
    },
    #[command(hide = true)]
    Worker(WorkerFlags),
}

#[derive(clap::Args)]
struct RunFlags {
    /// Only these targets, comma-separated [default: all]
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Everything follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inputs for each target at most
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    /// Seconds that one input may take
    #[arg(long, default_value_t = INPUT_TIME_MAX.as_secs())]
    input_seconds: u64,
    /// Where inputs that reach something new are kept, by target, to go on from next time
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Where findings are written [default: the target's regressions]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
struct WorkerFlags {
    #[arg(long)]
    target: String,
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    only: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 0)]
    millis: u64,
    #[arg(long, default_value_t = u64::MAX)]
    runs: u64,
    #[arg(long)]
    corpus: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        None => run(&cli.run),
        Some(Action::List) => {
            for row in targets() {
                println!("{:12} {}", row.name, row.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Replay { target, files }) => replay(target.as_deref(), files),
        Some(Action::Worker(flags)) => {
            let row = row(&flags.target)?;
            let is_found = match &flags.only {
                Some(file) => worker::replay(&row, &findings::read(file)?, &flags.state)?,
                None => worker::work(&row, &orders_of(&flags))?,
            };
            // Threads of a member may still run; what they hold is in memory only.
            std::process::exit(if is_found { FOUND_STATUS } else { 0 });
        }
    }
}

fn orders_of(flags: &WorkerFlags) -> Orders {
    Orders {
        seed: flags.seed,
        time: Duration::from_millis(flags.millis),
        runs_max: flags.runs,
        input_time_max: INPUT_TIME_MAX,
        corpus: flags.corpus.clone(),
        state: flags.state.clone(),
    }
}

fn row(name: &str) -> Result<Row> {
    let found = targets().into_iter().find(|row| row.name == name);
    found.with_context(|| format!("{name} is no target; `cargo xtask fuzz list` names them"))
}

fn run(flags: &RunFlags) -> Result<ExitCode> {
    let scratch = tempfile::tempdir()?;
    let chosen: Vec<Row> = match flags.target.is_empty() {
        true => targets().into_iter().filter(|row| row.is_usual).collect(),
        false => flags.target.iter().map(|name| row(name)).collect::<Result<_>>()?,
    };
    let mut is_clean = true;
    for row in chosen {
        let orders = Orders {
            seed: flags.seed,
            time: Duration::from_secs(flags.seconds),
            runs_max: flags.runs,
            input_time_max: Duration::from_secs(flags.input_seconds),
            corpus: flags.corpus.as_ref().map(|dir| dir.join(row.name)),
            state: scratch.path().join(row.name),
        };
        let out = flags.out.clone().unwrap_or_else(|| findings::regressions_dir(row.name));
        let report = campaign::fuzz(row.name, &orders, &out)?;
        println!("{:12} seed {}: {}", row.name, flags.seed, report.summary);
        for finding in &report.findings {
            is_clean = false;
            println!("  FOUND {}", finding.reason);
            println!("        cargo xtask fuzz replay --target {} {}", row.name, finding.path.display());
        }
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(target: Option<&str>, files: Vec<PathBuf>) -> Result<ExitCode> {
    let chosen: Vec<(String, PathBuf)> = match target {
        Some(target) => files.into_iter().map(|file| (target.to_owned(), file)).collect(),
        None => {
            let kept = |row: &Row| -> Result<Vec<(String, PathBuf)>> {
                let files = findings::read_all(&findings::regressions_dir(row.name))?;
                Ok(files.into_iter().map(|(path, _)| (row.name.to_owned(), path)).collect())
            };
            targets().iter().map(kept).collect::<Result<Vec<_>>>()?.concat()
        }
    };
    let scratch = tempfile::tempdir()?;
    let mut broken = 0;
    for (target, path) in &chosen {
        let state = scratch.path().join("state");
        match campaign::replay(target, &findings::read(path)?, &state, INPUT_TIME_MAX)? {
            None => println!("passes  {target} {}", shown(path)),
            Some(reason) => {
                broken += 1;
                println!("BREAKS  {target} {}: {reason}", shown(path));
            }
        }
    }
    println!("{} inputs, {broken} break something", chosen.len());
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
