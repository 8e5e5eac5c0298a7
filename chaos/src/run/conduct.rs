//! A run from start to end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::Header;
use xebec_chaos_disk::Names;

use super::{
    DiskNames, Flags, Recorder, breaking::break_things, judge::judge, lookout::Lookout, observer::observe,
    schedule::schedule,
};
use crate::{
    etcd::Etcd,
    faults::{Fault, Needs, Scene, clock, means_here},
    stores::{Hosts, Making, Program, StoreCluster},
    workloads::{Client, Workload},
};

/// A new store must answer within this time.
const START_MAX: Duration = Duration::from_secs(60);
/// Clients must end within this time after they were stopped.
const CLIENTS_END_MAX: Duration = Duration::from_secs(20);

/// Runs it all; prints where the report is.
///
/// # Errors
/// Something was violated or left undecided, or the run could not be made.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<()> {
    if let Some(listing) = flags.listing() {
        print!("{listing}");
        return Ok(());
    }
    if let Some(folder) = &flags.judge {
        return conclude(folder);
    }
    let seed = flags.seed.unwrap_or_else(|| rand::rng().random_range(1..1_000_000_000));
    let folder = new_folder(&flags.out, seed)?;
    if let Some(choice) = flags.plane() {
        super::plane::conduct(&flags, &choice, seed, &folder, &stop).await?;
        return conclude(&folder);
    }
    let program = program(&flags)?;
    let faults = match &program {
        Some(program) => flags.chosen_faults(&means_here(program, flags.upgrade_to.is_some()))?,
        None => Vec::new(),
    };
    let start = |program| StoreCluster::start(program, &folder, &making(&flags, &faults));
    let mut cluster = program.as_ref().map(start).transpose()?;
    let hosts = cluster.as_ref().map(StoreCluster::hosts);
    let outcome = conduct(&flags, seed, &folder, (hosts, &faults), &stop).await;
    let removed = cluster.as_mut().map_or(Ok(()), StoreCluster::remove);
    // What was seen is judged, even if the run ended badly.
    let recorded = folder.join("history.jsonl").exists();
    let judged = if recorded { conclude(&folder) } else { Ok(()) };
    outcome?;
    removed.context("cannot remove the store under test")?;
    judged
}

/// As [`run`], on a runtime of its own; SIGINT and SIGTERM end it early and cleanly.
///
/// # Errors
/// As [`run`].
pub fn run_until_signalled(flags: Flags) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start tokio")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let (stop, mut signals) = (stop.clone(), signal(kind).context("cannot listen for signals")?);
            tokio::spawn(async move {
                if signals.recv().await.is_some() {
                    stop.cancel();
                }
            });
        }
        run(flags, stop).await
    })
}

/// Judges a run's folder, and fails if anything in it does not hold.
fn conclude(folder: &Path) -> Result<()> {
    let results = judge(folder)?;
    let verdicts = &results.verdicts;
    for figure in &results.figures {
        println!("{figure}");
    }
    for verdict in verdicts {
        println!("{verdict}");
    }
    println!("report: {}", folder.join("report.html").display());
    let failed = verdicts.iter().filter(|verdict| !verdict.passes());
    let failed: Vec<_> = failed.map(|verdict| verdict.checker.as_str()).collect();
    if verdicts.is_empty() {
        bail!("nothing was recorded that could be checked");
    }
    if !failed.is_empty() {
        bail!("not held: {}", failed.join(", "));
    }
    Ok(())
}

fn new_folder(out: &Path, seed: u64) -> Result<PathBuf> {
    let name = format!("{}-{seed}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let folder = std::path::absolute(out)?.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// What the members run, if the run starts them.
fn program(flags: &Flags) -> Result<Option<Program>> {
    if !flags.endpoints.is_empty() {
        return Ok(None);
    }
    Ok(Some(match &flags.etcd {
        Some(etcd) => Program::Etcd(etcd.clone()),
        None => Program::Xebec(flags.program()?),
    }))
}

/// What members need so that these faults are possible.
fn making(flags: &Flags, faults: &[&Fault]) -> Making {
    let needed = |needs| faults.iter().any(|fault| fault.needs == needs);
    let names = match flags.disk {
        DiskNames::Strict => Names::Strict,
        DiskNames::Journal => Names::Journal,
    };
    Making {
        disks: needed(Needs::Disks).then_some(names),
        clocks: clock::library().filter(|_| needed(Needs::Clocks)),
        upgrade_to: flags.upgrade_to.clone(),
    }
}

async fn conduct(
    flags: &Flags,
    seed: u64,
    folder: &Path,
    (hosts, faults): (Option<&Hosts>, &[&'static Fault]),
    stop: &CancellationToken,
) -> Result<()> {
    let workloads = flags.chosen_workloads()?;
    let urls = match hosts {
        Some(hosts) => hosts.members().iter().map(|member| member.client_url()).collect(),
        None => flags.endpoints.clone(),
    };
    let names: Vec<String> = match hosts {
        Some(hosts) => hosts.members().iter().map(|member| member.name().to_owned()).collect(),
        None => urls.clone(),
    };
    let members: Result<Vec<_>, _> = urls.iter().map(|url| Etcd::new(url)).collect();
    let members = Arc::new(members.context("an endpoint is no URL")?);
    wait_until_ready(&members, stop).await?;
    let recorder = Recorder::create(&folder.join("history.jsonl"), &header(flags, seed))?;
    let recorder = Arc::new(recorder);
    eprintln!("seed {seed}, folder {}", folder.display());

    let (observing, working) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let leader = observe(&members, &names, &recorder, &observing, &mut tasks);
    start_clients(&workloads, seed, &recorder, &members, &working, &mut tasks);
    let turns = schedule(faults, flags.time, seed);
    let scene = || Scene::of_store(members.len(), leader.index());
    let lookout = Lookout::begin(flags.until_violated, &recorder, stop);
    let result = break_things(flags.time, turns, hosts, scene, &recorder, &lookout.over).await;
    // Whatever went wrong, what was seen until then is judged.
    working.cancel();
    observing.cancel();
    let ended = tokio::time::timeout(CLIENTS_END_MAX, async { while tasks.join_next().await.is_some() {} }).await;
    let looked = lookout.end().await;
    recorder.finish().context("cannot write the history")?;
    result?;
    looked?;
    ended.map_err(|_| anyhow::anyhow!("the clients do not end"))
}

pub(super) fn header(flags: &Flags, seed: u64) -> Header {
    let system = match (&flags.etcd, flags.endpoints.is_empty()) {
        _ if flags.plane().is_some() => flags.plane_in_words(),
        (Some(etcd), _) => format!("three members of {}", etcd.display()),
        (None, true) => "three members of xebec store".to_owned(),
        (None, false) => flags.endpoints.join(", "),
    };
    Header {
        seed,
        command: flags.command(seed),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        system,
        machine: machine(),
        ..Header::default()
    }
}

/// Processors, memory and kernel, from `/proc`.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kib: u64 = read("/proc/meminfo").split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{cpus} processors ({model}), {} GiB, Linux {}", kib >> 20, kernel.trim())
}

async fn wait_until_ready(members: &[Etcd], stop: &CancellationToken) -> Result<()> {
    let deadline = Instant::now() + START_MAX;
    for etcd in members {
        loop {
            let answered = tokio::time::timeout(Duration::from_secs(1), etcd.get("\0")).await;
            match answered {
                Ok(Ok(_)) => break,
                _ if stop.is_cancelled() => bail!("interrupted"),
                _ if Instant::now() > deadline => bail!("the store does not answer: {answered:?}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    Ok(())
}

fn start_clients(
    workloads: &[&'static Workload],
    seed: u64,
    recorder: &Arc<Recorder>,
    members: &Arc<Vec<Etcd>>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    let prefix = format!("chaos/{seed}-{}/", jiff::Timestamp::now().as_second());
    let mut number = seed;
    for workload in workloads {
        for index in 0..workload.clients {
            number = number.wrapping_add(0x9e37_79b9);
            let rng = StdRng::seed_from_u64(number);
            let of = (index, workload.clients);
            let (recorder, members) = (Arc::clone(recorder), Arc::clone(members));
            tasks.spawn((workload.work)(Client::new(of, rng, recorder, members, &prefix, stop.clone())));
        }
    }
}
