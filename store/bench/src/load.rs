//! A closed loop: so many clients, each with one request under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tonic::Status;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Work before the measurement begins.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// What a row came to.
#[derive(Debug)]
pub struct Load {
    /// Operations (or, for watches, events) in the measured time.
    pub operations: u64,
    /// The measured time.
    pub seconds: f64,
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
}

/// A histogram for latencies in microseconds.
///
/// # Errors
/// Never with these bounds.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?)
}

/// Where a run stands: shared with the clients, who look at it between two requests.
#[derive(Clone, Debug, Default)]
pub struct Phase(Arc<AtomicU8>);

impl Phase {
    const MEASURING: u8 = 1;
    const OVER: u8 = 2;

    /// Whether what happens now counts.
    pub fn is_measuring(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::MEASURING
    }

    /// Whether clients should end.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::OVER
    }

    /// Warms up, calls `begin`, measures, and says how long it was in seconds.
    pub async fn run(&self, duration: Duration, begin: impl FnOnce() -> Result<()>) -> Result<f64> {
        tokio::time::sleep(WARM_UP).await;
        begin()?;
        let started = Instant::now();
        self.0.store(Self::MEASURING, Ordering::Relaxed);
        tokio::time::sleep(duration).await;
        self.0.store(Self::OVER, Ordering::Relaxed);
        Ok(started.elapsed().as_secs_f64())
    }
}

/// One client of a closed loop.
pub trait Client: Send + 'static {
    /// Sends one request and awaits its answer.
    fn step(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Runs one loop per client; `begin` is called between warming up and measuring.
///
/// # Errors
/// Any request that fails: a measurement with failures measures something else.
pub async fn closed_loop<C: Client>(
    clients: Vec<C>,
    duration: Duration,
    begin: impl FnOnce() -> Result<()>,
) -> Result<Load> {
    let phase = Phase::default();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let phase = phase.clone();
            tokio::spawn(async move {
                let mut latency = histogram()?;
                while !phase.is_over() {
                    let started = Instant::now();
                    client.step().await.context("a request failed")?;
                    if phase.is_measuring() {
                        latency.saturating_record(started.elapsed().as_micros() as u64);
                    }
                }
                anyhow::Ok(latency)
            })
        })
        .collect();
    let seconds = phase.run(duration, begin).await?;
    let mut latency = histogram()?;
    for one in try_join_all(tasks).await? {
        latency.add(one?)?;
    }
    if latency.is_empty() {
        bail!("no request was answered within {duration:?}");
    }
    Ok(Load { operations: latency.len(), seconds, latency })
}
