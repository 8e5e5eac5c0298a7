//! A run on the control plane.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Flags, Recorder,
    breaking::break_things,
    conduct::header,
    lookout::Lookout,
    observer::{Leader, observe},
    schedule::schedule,
};
use crate::{
    api::ApiClient,
    faults::{Scene, means_of_plane},
    plane::{self, Choice, PlaneWorkload, Stage, Target, World},
    workloads::Client,
};

/// Informers must have listed everything within this time.
const INFORMED_MAX: Duration = Duration::from_secs(60);
/// Clients, and what they wait for, must have ended within this time after the last fault.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Once nothing is waited for any more, clients end within this time.
const CLIENTS_END_MAX: Duration = Duration::from_secs(10);

/// Runs it all, up to a history in `folder`.
///
/// # Errors
/// The cluster does not come up, or a client or fault fails in a way of its own.
pub(super) async fn conduct(
    flags: &Flags,
    choice: &Choice,
    seed: u64,
    folder: &Path,
    stop: &CancellationToken,
) -> Result<()> {
    // Mistakes in the command line are told before a cluster is started.
    let workloads = flags.chosen_plane_workloads()?;
    let mut target = Target::start(choice, flags.program()?, folder).await?;
    let namespace = format!("chaos-{seed}-{}", jiff::Timestamp::now().as_second());
    let outcome = work(flags, seed, folder, &target, &namespace, workloads, stop).await;
    let left = target.leave(&namespace).await;
    let removed = target.remove().await;
    outcome?;
    left?;
    removed.context("cannot remove the cluster under test")
}

async fn work(
    flags: &Flags,
    seed: u64,
    folder: &Path,
    target: &Target,
    namespace: &str,
    workloads: Vec<&'static PlaneWorkload>,
    stop: &CancellationToken,
) -> Result<()> {
    let faults = match target.hosts() {
        Some(hosts) => flags.chosen_faults(&means_of_plane(&hosts.spec))?,
        None => Vec::new(),
    };
    let nodes = target.prepare(namespace).await?;
    let recorder = Arc::new(Recorder::create(&folder.join("history.jsonl"), &header(flags, seed))?);
    eprintln!("seed {seed}, folder {}", folder.display());

    let world = Arc::new(World::new());
    let (observing, working) = (CancellationToken::new(), CancellationToken::new());
    let (mut observers, mut clients) = (JoinSet::new(), JoinSet::new());
    plane::watch_all(target.apis(), namespace, &world, &recorder, &observing, &mut observers);
    let names: Vec<String> = target.apis().iter().map(|(name, _)| name.clone()).collect();
    let loops = plane::observe_loops(&world, &names, &recorder, &observing, &mut observers);
    plane::measure_recovery(target, &world, &recorder, &observing, &mut observers);
    let stores = Arc::new(target.stores().to_vec());
    let leader = (!stores.is_empty()).then(|| observe(&stores, &names, &recorder, &observing, &mut observers));
    informed(&world, target.apis().len() * plane::KINDS.len(), stop).await?;

    let deadline = CancellationToken::new();
    let (namespace_owned, image) = (namespace.to_owned(), target.image().to_owned());
    let stage = Arc::new(Stage {
        namespace: namespace_owned,
        world: Arc::clone(&world),
        nodes,
        image,
        node_network: target.node_network(),
        deadline: deadline.clone(),
    });
    start_clients(&workloads, seed, &recorder, target.apis(), &stage, &working, &mut clients);
    let scene = || Scene {
        members: names.len(),
        leader: leader.as_ref().and_then(Leader::index),
        scheduler: loops.scheduler(),
        controllers: loops.controllers(),
        workers: target.hosts().map_or(0, |hosts| hosts.spec.workers),
    };
    let turns = schedule(&faults, flags.time, seed);
    let lookout = Lookout::begin(flags.until_violated, &recorder, stop);
    let broken = break_things(flags.time, turns, target.hosts(), scene, &recorder, &lookout.over).await;
    // Whatever went wrong, what was seen until then is judged.
    working.cancel();
    let mut ended = all_end(&mut clients, SETTLE_MAX).await;
    deadline.cancel();
    ended = ended || all_end(&mut clients, CLIENTS_END_MAX).await;
    // What is violated already need not come to rest.
    let rested = match lookout.end().await {
        Ok(true) => Ok(()),
        Ok(false) => plane::end(target, &world, namespace, &recorder).await,
        Err(error) => Err(error),
    };
    observing.cancel();
    let silent = all_end(&mut observers, CLIENTS_END_MAX).await;
    recorder.finish().context("cannot write the history")?;
    broken?;
    rested?;
    if !ended || !silent {
        bail!("the clients do not end");
    }
    Ok(())
}

async fn all_end(tasks: &mut JoinSet<()>, limit: Duration) -> bool {
    tokio::time::timeout(limit, async { while tasks.join_next().await.is_some() {} }).await.is_ok()
}

async fn informed(world: &World, informers: usize, stop: &CancellationToken) -> Result<()> {
    let deadline = Instant::now() + INFORMED_MAX;
    while world.contents().len() < informers {
        if stop.is_cancelled() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!("only {} of {informers} informers have a list", world.contents().len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn start_clients(
    workloads: &[&'static PlaneWorkload],
    seed: u64,
    recorder: &Arc<Recorder>,
    apis: &[(String, ApiClient)],
    stage: &Arc<Stage>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let members: Arc<Vec<ApiClient>> = Arc::new(apis.iter().map(|(_, api)| api.clone()).collect());
    let mut number = seed;
    for workload in workloads {
        for index in 0..workload.clients {
            number = number.wrapping_add(0x9e37_79b9);
            let of = (index, workload.clients);
            let rng = StdRng::seed_from_u64(number);
            let client = Client::new(of, rng, Arc::clone(recorder), Arc::clone(&members), "", stop.clone());
            tasks.spawn((workload.work)(client, Arc::clone(stage)));
        }
    }
}
