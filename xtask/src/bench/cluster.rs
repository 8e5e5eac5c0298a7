//! Measurements of the reference cluster. Every figure is taken from outside, with the release build, on a cluster of its
//! own that is gone afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xebec_chaos::{
    api::ApiClient,
    cluster::{self, Cluster, ClusterSpec, Host, Placement},
    measure::{cpu_time, resident_mib},
    preflight,
    process::wait_for,
    workload::Writers,
};

use super::machine;
use crate::build::{self, Need, Profile};

/// The cluster comes to rest before its idle cost is read.
const SETTLE: Duration = Duration::from_secs(20);
/// How long idle cost is observed.
const IDLE_WINDOW: Duration = Duration::from_secs(30);
/// Kills of each kind of leader.
const KILLS: usize = 3;
/// A figure that takes longer than this is a failure, not a measurement.
const LIMIT: Duration = Duration::from_secs(120);
/// Writes between two faults.
const WRITES: usize = 200;

/// Measures the reference cluster and prints a table.
pub fn cluster() -> Result<()> {
    build::install_missing(Need::Tests)?;
    preflight::check_kernel()?;
    let cluster = Cluster::new(ClusterSpec {
        name: "xbbench".into(),
        dir: "/var/lib/xebec/bench".into(),
        binary: build::xebec(Profile::Release)?,
        placement: Placement::Namespaces { subnet: 2 },
        workers: 2,
        hollow: None,
    });
    cluster::down(&cluster)?;
    let result = measure(&cluster);
    cluster::down(&cluster)?;
    let rows = result?;
    println!("\nmachine: {}\n\n| figure | measured | target |\n|---|---|---|", machine::describe());
    for (figure, measured, target) in rows {
        println!("| {figure} | {measured} | {target} |");
    }
    Ok(())
}

type Row = (String, String, String);

fn row(figure: &str, measured: String, target: &str) -> Row {
    (figure.into(), measured, target.into())
}

fn measure(cluster: &Cluster) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let started = Instant::now();
    cluster::up(cluster)?;
    rows.push(row("start to ready", format!("{:.1} s", started.elapsed().as_secs_f64()), "under 60 s"));
    rows.extend(deployment(cluster)?);
    rows.extend(idle(cluster)?);
    rows.extend(failover(cluster)?);
    Ok(rows)
}

fn deployment(cluster: &Cluster) -> Result<Vec<Row>> {
    let guestbook = build::root().join("examples/guestbook").display().to_string();
    let kubectl = cluster.kubectl();
    let started = Instant::now();
    kubectl.run(&["apply", "-f", &guestbook])?;
    wait_for(LIMIT, "the guestbook's pods to run", || {
        let pods = kubectl.get(&["pods", "-l", "app=guestbook"])?;
        let running = pods["items"].as_array().into_iter().flatten().filter(|pod| pod["status"]["phase"] == "Running");
        Ok((running.count() == 4).then_some(()))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(vec![row("two Deployments, four pods: apply to running", format!("{seconds:.1} s"), "under 5 s")])
}

fn idle(cluster: &Cluster) -> Result<Vec<Row>> {
    eprintln!("idle cost, over {} s", IDLE_WINDOW.as_secs());
    std::thread::sleep(SETTLE);
    let masters: Vec<_> = cluster.spec.masters();
    let workers: Vec<_> = (1..=2).map(|number| cluster.spec.worker(number)).collect();
    let pids = |hosts: &[Host]| -> Result<Vec<i32>> {
        hosts
            .iter()
            .map(|host| cluster.component(host).pid().with_context(|| format!("{} is gone", host.name)))
            .collect()
    };
    let (masters, workers) = (pids(&masters)?, pids(&workers)?);
    let before: Vec<_> = masters.iter().chain(&workers).map(|pid| cpu_time(*pid)).collect::<Result<_>>()?;
    std::thread::sleep(IDLE_WINDOW);
    let after: Vec<_> = masters.iter().chain(&workers).map(|pid| cpu_time(*pid)).collect::<Result<_>>()?;
    let percent: Vec<_> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| 100.0 * (*after - *before).as_secs_f64() / IDLE_WINDOW.as_secs_f64())
        .collect();
    let memory = |pids: &[i32]| pids.iter().map(|pid| resident_mib(*pid)).collect::<Result<Vec<_>>>();
    let (master_cpu, node_cpu) = percent.split_at(masters.len());
    Ok(vec![
        row("memory of a master, idle", format!("{} MiB", list(&memory(&masters)?, 0)), "under 150 MiB"),
        row("memory of a node agent, idle", format!("{} MiB", list(&memory(&workers)?, 0)), "under 60 MiB"),
        row("processor of a master, idle", format!("{} % of a core", list(master_cpu, 1)), "under 5 %"),
        row("processor of a node agent, idle", format!("{} % of a core", list(node_cpu, 1)), ""),
    ])
}

fn failover(cluster: &Cluster) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(ApiClient::open(&cluster.kubeconfig(), None))?;
    let (mut acknowledged, mut rows) = (0, Vec::new());
    for (who, find) in [
        ("the store's leader", Cluster::store_leader as fn(&Cluster) -> Result<Host>),
        ("the control loops' leader", Cluster::controllers_leader),
    ] {
        let (mut gaps, mut resumes) = (Vec::new(), Vec::new());
        for kill in 1..=KILLS {
            eprintln!("killing {who}, {kill} of {KILLS}");
            let name = format!("round-{}-{kill}", rows.len());
            cluster.kubectl().run(&["create", "namespace", &name])?;
            let leader = wait_for(LIMIT, who, || Ok(find(cluster).ok()))?;
            let writers = runtime.block_on(async { Writers::start(&client, &name) });
            flow(&writers, WRITES)?;
            let killed = Instant::now();
            cluster.component(&leader).kill()?;
            resumes.push(control_loops_resume(cluster, &name, killed)?.as_secs_f64());
            flow(&writers, writers.acknowledged() + WRITES)?;
            let record = runtime.block_on(writers.check())?;
            acknowledged += record.acknowledged.len();
            gaps.push(record.longest_gap().as_secs_f64());
            cluster::start_host(cluster, &leader)?;
            await_ready(cluster, &leader)?;
        }
        rows.push(row(
            &format!("longest write gap after kill -9 of {who}"),
            format!("{} s", list(&gaps, 2)),
            "under 2 s",
        ));
        rows.push(row(
            &format!("kill -9 of {who} to a new pod placed"),
            format!("{} s", list(&resumes, 2)),
            "under 5 s",
        ));
    }
    rows.push(row("acknowledged writes lost", format!("0 of {acknowledged}"), "0"));
    Ok(rows)
}

/// The time from the kill until a Deployment made after it has a pod that a scheduler has placed: API server,
/// controllers and scheduler all work again.
fn control_loops_resume(cluster: &Cluster, name: &str, killed: Instant) -> Result<Duration> {
    let kubectl = cluster.kubectl();
    wait_for(LIMIT, "a deployment to be taken", || {
        let create = ["create", "deployment", name, "--image=xebec.local/busybox:1", "--", "sleep", "86400"];
        match kubectl.run(&create) {
            Err(error) if !format!("{error:#}").contains("already exists") => Ok(None),
            _ => Ok(Some(())),
        }
    })?;
    wait_for(LIMIT, "its pod to be scheduled", || {
        let selector = format!("app={name}");
        let Ok(pods) = kubectl.get(&["pods", "-l", &selector]) else { return Ok(None) };
        Ok(pods["items"][0]["spec"]["nodeName"].is_string().then(|| killed.elapsed()))
    })
}

fn flow(writers: &Writers, count: usize) -> Result<()> {
    wait_for(LIMIT, "writes to flow", || Ok((writers.acknowledged() >= count).then_some(())))
}

fn await_ready(cluster: &Cluster, host: &Host) -> Result<()> {
    let server = format!("--server={}", host.api_url());
    wait_for(LIMIT, &format!("{} to come back", host.name), || {
        Ok(cluster.kubectl().run(&[&server, "get", "--raw=/readyz"]).ok().map(drop))
    })
}

fn list(values: &[f64], digits: usize) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("{value:.digits$}")).collect();
    values.join(", ")
}
