use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use tokio_util::sync::CancellationToken;
use xebec_client::{Campaign, ConnectError, ConnectOptions, Connection, Fence, Recorder, run_while_leading};
use xebec_pki::Authority;

use crate::{
    context::{Context, Settings},
    discovery::Discovery,
    engine::Loop,
    execute::Executor,
    flags::Flags,
    garbage::Garbage,
    health::{self, Health},
    rows,
    world::World,
};

/// Name of the leadership, and of the Lease that mirrors it.
const LEADERSHIP: &str = "kube-controller-manager";

/// Why the controllers did not start. Nothing here happens later: once running they retry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection's settings are unusable.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The signing authority is unusable.
    #[error("the cluster signing certificate or key is unusable: {0}")]
    Authority(#[from] xebec_pki::Error),
    /// Flags contradict each other.
    #[error("{0}")]
    Flags(String),
    /// The health address cannot be served.
    #[error("cannot serve health on {address}: {source}")]
    Health {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the controllers until `stop`: caches always, decisions while this process leads.
///
/// # Errors
/// Only for what makes starting impossible; see [`Error`].
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    let settings = settings(&flags)?;
    let authority = authority(&flags)?;
    let table = chosen(&flags.controllers)?;
    let connection = Connection::open(ConnectOptions {
        kubeconfig: Some(flags.kubeconfig.clone()),
        component: "controllers".to_owned(),
        ..ConnectOptions::default()
    })
    .await?;
    let client = connection.client()?;
    // Whatever ends first ends everything that was started here.
    let stop = stop.child_token();
    let guard = stop.clone().drop_guard();
    let context = Arc::new(Context {
        world: World::open(&client, &stop),
        garbage: Arc::default(),
        discovery: Arc::default(),
        settings,
    });
    let (garbage, discovery): (Arc<Garbage>, Arc<Discovery>) = (context.garbage.clone(), context.discovery.clone());
    tokio::spawn(garbage.watch(client.clone(), discovery, stop.clone()));
    let loops: Vec<Arc<Loop>> = table.iter().map(|row| Loop::new(row, &context)).collect();
    let health = Arc::new(Health::default());
    health.ready.store(true, Ordering::Relaxed);

    let work = Work {
        connection: connection.clone(),
        context,
        loops,
        authority,
        workers: flags.concurrent_syncs,
        host: identity(&flags),
        health: health.clone(),
    };
    let leading = lead(&flags, connection, work, stop.clone());
    let serving = health::serve(flags.health_address, health, stop.clone());
    let result = tokio::select! {
        () = leading => Ok(()),
        served = serving => served.map_err(|source| Error::Health { address: flags.health_address, source }),
    };
    drop(guard);
    result
}

async fn lead(flags: &Flags, connection: Connection, work: Work, stop: CancellationToken) {
    if !flags.leader_elect {
        return work.lead(Fence::leading(None), stop).await;
    }
    let campaign = Campaign { connection, name: LEADERSHIP.to_owned(), identity: identity(flags) };
    run_while_leading(campaign, stop, move |fence, stop| work.clone().lead(fence, stop)).await;
}

/// What one leadership needs.
#[derive(Clone)]
struct Work {
    connection: Connection,
    context: Arc<Context>,
    loops: Vec<Arc<Loop>>,
    authority: Option<Arc<Authority>>,
    workers: usize,
    host: String,
    health: Arc<Health>,
}

impl Work {
    async fn lead(self, fence: Fence, stop: CancellationToken) {
        let client = match self.connection.fenced(&fence) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "cannot make a client for this leadership");
                return;
            }
        };
        self.health.leading.store(true, Ordering::Relaxed);
        let recorder = Recorder::start(client.clone(), LEADERSHIP, &self.host, stop.clone());
        let executor = Executor { client, recorder, authority: self.authority.clone() };
        // What an earlier leader wrote last must be seen before anything is decided.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.context.world.catch_up_with_store(&executor.client) => {
                let runs = self.loops.iter().map(|each| {
                    Arc::clone(each).lead(executor.clone(), self.workers, stop.clone())
                });
                futures::future::join_all(runs).await;
            }
        }
        self.health.leading.store(false, Ordering::Relaxed);
    }
}

fn identity(flags: &Flags) -> String {
    flags.leader_elect_identity.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{}", host.trim(), uuid::Uuid::new_v4())
    })
}

fn chosen(wanted: &[String]) -> Result<Vec<&'static crate::engine::Controller>, Error> {
    let bare = |name: &str| name.trim_start_matches('-').to_owned();
    if let Some(unknown) =
        wanted.iter().find(|name| *name != "*" && !rows::TABLE.iter().any(|row| row.name == bare(name)))
    {
        let known: Vec<_> = rows::TABLE.iter().map(|row| row.name).collect();
        return Err(Error::Flags(format!("--controllers: {unknown:?} is none of {}", known.join(", "))));
    }
    let is_chosen = |name: &str| {
        let named = wanted.iter().any(|want| want == name);
        let dropped = wanted.iter().any(|want| want.strip_prefix('-') == Some(name));
        named || (!dropped && wanted.iter().any(|want| want == "*"))
    };
    Ok(rows::TABLE.iter().copied().filter(|row| is_chosen(row.name)).collect())
}

fn settings(flags: &Flags) -> Result<Settings, Error> {
    if flags.allocate_node_cidrs && flags.cluster_cidr.is_none() {
        return Err(Error::Flags("--allocate-node-cidrs needs --cluster-cidr".to_owned()));
    }
    if let Some(cluster) = flags.cluster_cidr
        && flags.allocate_node_cidrs
        && cluster.subnets(flags.node_cidr_mask_size_ipv4).is_err()
    {
        return Err(Error::Flags(format!(
            "--node-cidr-mask-size-ipv4: /{} does not fit into --cluster-cidr {cluster}",
            flags.node_cidr_mask_size_ipv4
        )));
    }
    if !matches!(flags.cloud_provider.as_str(), "none" | "bare") {
        return Err(Error::Flags(format!("--cloud-provider: {:?} is neither none nor bare", flags.cloud_provider)));
    }
    let bare = flags.cloud_provider == "bare";
    Ok(Settings {
        root_ca: flags.root_ca_file.as_deref().map(read).transpose()?.map(Arc::from),
        fills_tokens: flags.service_account_private_key_file.is_some(),
        signs: flags.cluster_signing_cert_file.is_some(),
        signing_validity_max: flags.cluster_signing_duration,
        node_grace: flags.node_monitor_grace_period,
        cluster_cidr: flags.cluster_cidr.filter(|_| flags.allocate_node_cidrs),
        service_cidr: flags.service_cluster_ip_range,
        node_mask: flags.node_cidr_mask_size_ipv4,
        terminated_pods_max: flags.terminated_pod_gc_threshold,
        load_balancer_cidr: flags.load_balancer_cidr.filter(|_| bare),
        cloud: bare,
    })
}

fn authority(flags: &Flags) -> Result<Option<Arc<Authority>>, Error> {
    match (&flags.cluster_signing_cert_file, &flags.cluster_signing_key_file) {
        (Some(certificate), Some(key)) => Ok(Some(Arc::new(Authority::load(certificate, key)?))),
        (None, None) => Ok(None),
        _ => Err(Error::Flags("--cluster-signing-cert-file and --cluster-signing-key-file go together".to_owned())),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
