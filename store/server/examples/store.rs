//! One store member as a process: `store --name a --data-dir ... `, with etcd's flags. Built with the feature `planted-bugs`
//! it has the bug that `XEBEC_PLANTED_BUG` names, for chaos runs to find.

use clap::Parser;
use tokio_util::sync::CancellationToken;
use xebec_store::{Flags, run};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a crypto provider was there already")?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    #[cfg(feature = "planted-bugs")]
    plant_a_bug()?;
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.cancel();
        }
    });
    Ok(run(Cli::parse().flags, stop).await?)
}

#[cfg(feature = "planted-bugs")]
fn plant_a_bug() -> Result<(), String> {
    let Ok(name) = std::env::var("XEBEC_PLANTED_BUG") else { return Ok(()) };
    let bug = xebec_store::PlantedBug::named(&name).ok_or_else(|| format!("no such bug: {name}"))?;
    tracing::error!(name, "a bug is planted in this process");
    xebec_store::plant(bug);
    Ok(())
}
