//! How long things take to recover: a master to catch up, a lost node's pods to run elsewhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Event, Measure};

use super::{World, target::Target};
use crate::{
    api::{ApiClient, Outcome},
    etcd::{Etcd, unsigned},
    faults::LOST_NODE,
    run::Recorder,
};

/// Between looks: the resolution of the figures.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// A master that does not answer for so long is away.
const ANSWER_MAX: Duration = Duration::from_millis(400);
/// A lost node that was not made up for after so long is not waited for any more.
const ELSEWHERE_MAX: Duration = Duration::from_secs(40);

/// Measures until `stop`.
pub fn measure_recovery(
    target: &Target,
    world: &Arc<World>,
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let highest = Arc::new(AtomicU64::new(0));
    for (etcd, (name, api)) in target.stores().iter().zip(target.apis()) {
        let master = Master { name: name.clone(), etcd: etcd.clone(), api: api.clone(), highest: Arc::clone(&highest) };
        let (recorder, stop) = (Arc::clone(recorder), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = master.follow(&recorder) => {}
            }
        });
    }
    let (world, recorder, stop) = (Arc::clone(world), Arc::clone(recorder), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow_nodes(&world, &recorder) => {}
        }
    });
}

fn measured(recorder: &Recorder, name: &str, fault: u64, since: u64, detail: String) {
    let time = recorder.now();
    let took = time.saturating_sub(since);
    recorder.record(&Event::Measure(Measure { time, name: name.to_owned(), fault, took, detail }));
}

struct Master {
    name: String,
    etcd: Etcd,
    api: ApiClient,
    /// The highest revision that any master has shown.
    highest: Arc<AtomicU64>,
}

impl Master {
    /// Whenever it was away: from the moment it was let go on to the moment at which it has all that the others had then,
    /// and its API server is ready.
    async fn follow(&self, recorder: &Recorder) {
        let mut away = false;
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            match self.revision().await {
                None => away = true,
                Some(revision) => {
                    self.highest.fetch_max(revision, Ordering::Relaxed);
                    if std::mem::take(&mut away) {
                        self.catch_up(recorder).await;
                    }
                }
            }
        }
    }

    async fn catch_up(&self, recorder: &Recorder) {
        let (fault, healed) = recorder.last_healed();
        let wanted = self.highest.load(Ordering::Relaxed);
        // Back before anything was healed: it was only slow.
        if healed == 0 || recorder.is_broken() {
            return;
        }
        loop {
            let ready = matches!(tokio::time::timeout(ANSWER_MAX, self.api.get("/readyz")).await, Ok(Outcome::Done(_)));
            if recorder.last_healed().0 != fault || recorder.is_broken() {
                return;
            }
            if ready && self.revision().await.is_some_and(|revision| revision >= wanted) {
                return measured(recorder, "catch-up", fault, healed, self.name.clone());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn revision(&self) -> Option<u64> {
        let status = tokio::time::timeout(ANSWER_MAX, self.etcd.status()).await.ok()?.ok()?;
        let header = status.header?;
        // One that does not know its leader serves nobody.
        (status.leader != 0).then_some(unsigned(header.revision))
    }
}

/// For every node that is lost: until no pod of a Deployment is left on it, and every Deployment has what it wants.
async fn follow_nodes(world: &World, recorder: &Recorder) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(LOOK_PAUSE).await;
        let Some((fault, name, detail, since)) = recorder.current_fault() else { continue };
        if fault == seen || name != LOST_NODE {
            continue;
        }
        seen = fault;
        let host = detail.split(' ').next().unwrap_or_default().to_owned();
        if world.owned_pods_on(&host) == 0 {
            continue;
        }
        let moved = async {
            while world.owned_pods_on(&host) > 0 || !world.converged() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        if tokio::time::timeout(ELSEWHERE_MAX, moved).await.is_ok() {
            measured(recorder, "elsewhere", fault, since, host);
        }
    }
}
