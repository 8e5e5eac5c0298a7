//! The only entrance for developers: brings the reference cluster up and down, runs the tests, keeps the house tidy.

mod bench;
mod build;
mod chaos;
mod clusters;
mod fuzz;
mod mutations;
mod sim;
mod tests;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Xebec's developer commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, and start the reference cluster: three masters and two nodes, each a host of its own
    Up {
        /// Start a cluster of three masters and N hollow nodes on the loopback address instead: no root, no containers
        #[arg(long, value_name = "N")]
        hollow: Option<u8>,
    },
    /// Stop the cluster and remove everything it left on this machine, its data included
    Down,
    /// Add a worker node to the running cluster
    Join {
        /// A bootstrap token, as `cargo xtask up` and `xebec token create` print it
        #[arg(long)]
        token: String,
    },
    /// Kill or start single hosts of the running cluster
    Host {
        /// What to do
        #[command(subcommand)]
        action: HostAction,
    },
    /// Run every test, real containers included
    Test {
        /// Only the tests that need no cluster
        #[arg(long)]
        quick: bool,
    },
    /// Simulate clusters of the store from seeds: deterministic, with network, disk and clock faults
    Sim {
        /// What the simulator takes: --seeds N --seed S --members 3|5 --steps MILLISECONDS --plant BUG --verbose
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzz every decoder of the store that takes bytes from outside, guided by coverage
    Fuzz {
        /// What the fuzzer takes: --target NAMES --seconds N --seed S | list | replay [--target NAME FILES]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Format, lints, dependency direction, file sizes, no sleeping tests
    Tidy,
    /// Break a store while clients use it, and check that nothing was lost
    Chaos {
        /// Plant this bug in what is run (`cargo xtask mutations` knows them): the run should fail
        #[arg(long, value_name = "BUG")]
        mutation: Option<String>,
        #[command(flatten)]
        flags: Box<xebec_chaos::run::Flags>,
    },
    /// Plant bugs in the store and the API server, and see that simulations and chaos runs find each
    Mutations {
        /// Only chaos runs, and of them what takes seconds: as in the tests
        #[arg(long)]
        quick: bool,
        /// Only this bug
        #[arg(long, value_name = "BUG")]
        only: Option<String>,
    },
    /// Measure
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Subcommand)]
enum HostAction {
    /// Which hosts there are, and which of them run
    List,
    /// Kill a host's process with SIGKILL (m1..m3: a whole master; n1...: the node agent; --host: its containers too)
    Kill {
        /// The host
        name: String,
        /// A node with everything on it: agent, runtime and containers
        #[arg(long)]
        host: bool,
    },
    /// Start a killed host again
    Start {
        /// The host
        name: String,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The reference cluster: start-up, idle cost, a Deployment's pods, failover
    Cluster,
    /// The store: the same work on three members of ours and three of etcd's, as a table of ratios
    Store {
        /// The etcd binary to compare with; without it only ours is measured
        #[arg(long, value_name = "PATH_TO_ETCD")]
        against: Option<std::path::PathBuf>,
        /// What else to pass on: `-- --rows put,list --clients 64 --seconds 5`
        #[arg(last = true)]
        options: Vec<String>,
    },
}

fn main() {
    if fuzz::is_compiler_wrapper() {
        fuzz::compile();
    }
    if let Err(error) = run(Arguments::parse()) {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Up { hollow } => clusters::up(hollow),
        Command::Down => clusters::down(),
        Command::Join { token } => clusters::join(&token),
        Command::Host { action } => match action {
            HostAction::List => clusters::list(),
            HostAction::Kill { name, host } => clusters::kill(&name, host),
            HostAction::Start { name } => clusters::start(&name),
        },
        Command::Test { quick } => tests::run(quick),
        Command::Sim { arguments } => sim::run(&arguments),
        Command::Fuzz { arguments } => fuzz::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Chaos { mutation: Some(bug), flags } => chaos::run_mutated(&bug, &flags),
        Command::Chaos { mutation: None, flags } => chaos::run(*flags),
        Command::Mutations { quick, only } => {
            let extent = if quick { mutations::Extent::Quick } else { mutations::Extent::All };
            mutations::run(extent, only.as_deref())
        }
        Command::Bench { what: Bench::Cluster } => bench::cluster(),
        Command::Bench { what: Bench::Store { against, options } } => bench::store::run(against.as_deref(), &options),
    }
}
