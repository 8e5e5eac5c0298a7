//! The API server by itself: `cargo run -p xebec-apiserver --example apiserver -- --etcd-servers ...`.

use clap::Parser as _;
use tokio_util::sync::CancellationToken;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    flags: xebec_apiserver::Flags,
}

#[tokio::main]
async fn main() -> Result<(), xebec_apiserver::Error> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopped.cancel();
        }
    });
    xebec_apiserver::run(cli.flags, stop).await
}
