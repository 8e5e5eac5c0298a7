//! The command line: which component a process is.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{master, token};

/// A highly available Kubernetes control plane with a store of its own.
#[derive(Parser)]
#[command(name = "xebec", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A whole master: store, API server, scheduler and controllers in one process
    Master(Box<master::Flags>),
    /// The replicated key-value store; takes etcd's flags and speaks etcd v3
    Store(Box<xebec_store::StoreCommand>),
    /// The Kubernetes API server
    Apiserver(Box<xebec_apiserver::Flags>),
    /// Assigns pods to nodes
    Scheduler(Box<xebec_scheduler::Flags>),
    /// The control loops
    Controllers(Box<xebec_controllers::Flags>),
    /// A worker node: kubelet, service proxy and DNS
    Node(Box<xebec_node::Flags>),
    /// A TCP balancer before the API servers
    Balancer(xebec_client::BalancerFlags),
    /// Break a store while clients use it, and check that nothing was lost
    Chaos(Box<xebec_chaos::run::Flags>),
    /// Bootstrap tokens, with which nodes join
    #[command(subcommand)]
    Token(token::Command),
}

/// Does what the process was called for; ends it with code 1 if that fails.
pub fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("XEBEC_LOG").unwrap_or_else(|_| EnvFilter::new("info,openraft=warn")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if let Err(error) = run(Arguments::parse()) {
        eprintln!("xebec: {error:#}");
        std::process::exit(1);
    }
}

fn run(arguments: Arguments) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        let stop = stop_on_signals()?;
        match arguments.command {
            Command::Master(flags) => master::run(*flags, stop).await,
            Command::Store(flags) => Ok(xebec_store::command(*flags, stop).await?),
            Command::Apiserver(flags) => Ok(xebec_apiserver::run(*flags, stop).await?),
            Command::Scheduler(flags) => Ok(xebec_scheduler::run(*flags, stop).await?),
            Command::Controllers(flags) => Ok(xebec_controllers::run(*flags, stop).await?),
            Command::Node(flags) => Ok(xebec_node::run(*flags, stop).await?),
            Command::Balancer(flags) => Ok(xebec_client::balancer::run(flags.listen, flags.backends, stop).await?),
            Command::Chaos(flags) => xebec_chaos::run::run(*flags, stop).await,
            Command::Token(command) => token::run(command).await,
        }
    })
}

/// SIGTERM and SIGINT ask for an orderly end.
fn stop_on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.cancel();
            }
        });
    }
    Ok(stop)
}
