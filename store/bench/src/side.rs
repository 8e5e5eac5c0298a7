//! Both sides, measured row by row in turn.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    gap,
    load::Load,
    members::Members,
    rows::{Row, fill},
    usage::{self, Usage},
};

/// What to do to each side.
pub struct Plan {
    /// Kinds of work.
    pub rows: Vec<Row>,
    /// Numbers of clients for each.
    pub clients: Vec<usize>,
    /// Measured time of each.
    pub duration: Duration,
    /// Kills of the leader.
    pub kills: usize,
}

/// One row at one number of clients.
pub struct Cell {
    /// The work.
    pub row: Row,
    /// The clients.
    pub clients: usize,
    /// What came of it.
    pub load: Load,
    /// What the members used meanwhile.
    pub usage: Usage,
}

/// What one side came to.
pub struct Measured {
    /// `xebec` or `etcd`.
    pub name: &'static str,
    /// The rows, in the plan's order.
    pub cells: Vec<Cell>,
    /// Resident memory of the largest member after all rows.
    pub resident_bytes: u64,
    /// Longest time without an acknowledged write, for each kill of the leader.
    pub gaps: Vec<Duration>,
}

/// Measures all sides. Progress goes to stderr.
///
/// # Errors
/// A member does not start, or a request fails.
pub async fn measure(sides: &[(&'static str, PathBuf)], dir: &Path, plan: &Plan) -> Result<Vec<Measured>> {
    let mut measured = Vec::new();
    let mut clusters = Vec::new();
    for (name, binary) in sides {
        let started = Instant::now();
        let members = Members::start(binary, dir).await?;
        fill(&members).await?;
        eprintln!("{name}: three members are up and filled ({:.1} s)", started.elapsed().as_secs_f64());
        clusters.push(members);
        measured.push(Measured { name, cells: Vec::new(), resident_bytes: 0, gaps: Vec::new() });
    }
    for row in &plan.rows {
        for clients in &plan.clients {
            for (side, members) in measured.iter_mut().zip(&clusters) {
                let cell = cell(*row, *clients, members, plan.duration).await?;
                eprintln!("{:6} {:24} {:4} clients: {}", side.name, row.title(), clients, summary(&cell));
                side.cells.push(cell);
            }
        }
    }
    for (side, members) in measured.iter_mut().zip(&mut clusters) {
        side.resident_bytes = usage::of(&members.pids())?.resident_bytes;
        for _ in 0..plan.kills {
            let longest = gap::after_kill_of_leader(members).await?;
            eprintln!("{:6} write gap after kill -9 of the leader: {longest:.0?}", side.name);
            side.gaps.push(longest);
        }
    }
    Ok(measured)
}

async fn cell(row: Row, clients: usize, members: &Members, duration: Duration) -> Result<Cell> {
    let pids = members.pids();
    let mut before = Usage::default();
    let load = row
        .run(members, clients, duration, || {
            before = usage::of(&pids)?;
            Ok(())
        })
        .await?;
    let usage = usage::of(&pids)?.since(before);
    Ok(Cell { row, clients, load, usage })
}

fn summary(cell: &Cell) -> String {
    let millis = |quantile| cell.load.latency.value_at_quantile(quantile) as f64 / 1_000.0;
    format!(
        "{:9.0}/s  p50 {:7.2} ms  p99 {:7.2} ms  {:6.3} CPU s per 1,000",
        cell.load.operations as f64 / cell.load.seconds,
        millis(0.5),
        millis(0.99),
        cell.usage.cpu_seconds * 1_000.0 / cell.load.operations as f64
    )
}
