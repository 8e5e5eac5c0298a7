//! The store against etcd: the same client, the same work, the same disk, one after the other.
//!
//! Three members of each kind run on loopback with their default settings and real fsync. A row is one kind of work at one
//! number of clients, each of which has one request under way at a time. The two sides take turns row by row, so that a
//! machine that is slower for a while is slower for both.

mod gap;
mod line;
mod load;
mod members;
mod rows;
mod session;
mod side;
mod table;
mod usage;
mod watchers;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::{rows::Row, side::Measured};

/// What to measure, and against whom.
#[derive(Debug, Parser)]
#[command(name = "store-bench")]
pub struct Arguments {
    /// The `xebec` binary, or one that takes etcd's flags itself
    #[arg(long)]
    xebec: PathBuf,
    /// The `etcd` binary; without it only Xebec is measured
    #[arg(long)]
    against: Option<PathBuf>,
    /// Seconds each row runs, after a second of warming up
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,64,512")]
    clients: Vec<usize>,
    /// Rows to run; all without it
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// How often the leader is killed for the write gap; 0 leaves it out
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Where the members keep their data: a directory on the disk to measure
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rows = if arguments.rows.is_empty() { Row::ALL.to_vec() } else { arguments.rows.clone() };
    let plan = side::Plan {
        rows,
        clients: arguments.clients,
        duration: Duration::from_secs(arguments.seconds),
        kills: arguments.kills,
    };
    let mut sides = vec![("xebec", arguments.xebec)];
    sides.extend(arguments.against.map(|etcd| ("etcd", etcd)));
    let measured: Vec<Measured> = side::measure(&sides, &arguments.dir, &plan).await?;
    print!("{}", table::render(&measured));
    Ok(())
}
