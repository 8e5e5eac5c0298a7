//! The cluster that is worked on: one of our own on hosts that can be broken, or any that runs elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{ApiClient, Outcome},
    cluster::{self, Cluster, ClusterSpec, Host, Placement},
    etcd::Etcd,
    images,
    stores::{Hosts, Member},
};

/// Prefix of everything that the cluster makes on the machine.
const NAME: &str = "xplane";
/// Third byte of the hosts' addresses, apart from those of other clusters and of the stores under test.
const SUBNET: u8 = 90;
/// First port where hosts cannot be made.
const BASE_PORT: u16 = 25_200;
/// Where the cluster lies while it runs: sockets' paths must be short.
const PLACE: &str = "/var/lib/xebec/chaos";
/// Worker hosts of a cluster of our own.
const WORKERS: u8 = 2;
/// The API must be usable within this time.
const USABLE_MAX: Duration = Duration::from_secs(60);
/// Between tries.
const TRY_PAUSE: Duration = Duration::from_millis(200);

/// Which cluster to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Three masters, and so many hollow nodes on each worker host.
    Hollow(u8),
    /// Three masters, and workers with real containers.
    Reference,
    /// Whatever a kubeconfig names.
    Kubeconfig(PathBuf),
}

/// A cluster and its clients.
pub struct Target {
    /// One such cluster at a time on a machine.
    _lock: Option<Flock<fs::File>>,
    cluster: Option<Cluster>,
    hosts: Option<Hosts>,
    apis: Vec<(String, ApiClient)>,
    stores: Vec<Etcd>,
    folder: PathBuf,
}

impl Target {
    /// Brings a cluster of our own up, or connects to one that runs.
    ///
    /// # Errors
    /// It does not come up or cannot be reached; what was started is stopped again.
    pub async fn start(choice: &Choice, binary: PathBuf, folder: &Path) -> Result<Self> {
        let folder = folder.to_owned();
        let spec = match choice {
            Choice::Kubeconfig(path) => {
                let apis = vec![("api".to_owned(), ApiClient::open(path, None).await?)];
                return Ok(Self { _lock: None, cluster: None, hosts: None, apis, stores: Vec::new(), folder });
            }
            Choice::Hollow(nodes) => spec(binary, &folder, Some(*nodes)),
            Choice::Reference if !nix::unistd::geteuid().is_root() => {
                bail!("--reference makes hosts and containers and needs root; --hollow does not")
            }
            Choice::Reference => spec(binary, &folder, None),
        };
        let cluster = Cluster::new(spec);
        let lock = Some(lock()?);
        let mut target = Self {
            _lock: lock,
            cluster: Some(cluster.clone()),
            hosts: None,
            apis: Vec::new(),
            stores: Vec::new(),
            folder,
        };
        let up = tokio::task::spawn_blocking(move || {
            // What an interrupted run left behind.
            cluster::down(&cluster)?;
            cluster::up(&cluster).map(|()| cluster)
        });
        let connected = match up.await.context("starting the cluster panicked")? {
            Ok(cluster) => target.connect(&cluster).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(()) => Ok(target),
            Err(error) => {
                target.remove().await.context("and cleaning up failed as well")?;
                Err(error.context("the cluster does not come up"))
            }
        }
    }

    async fn connect(&mut self, cluster: &Cluster) -> Result<()> {
        let mut members = Vec::new();
        for host in cluster.spec.masters() {
            let api = ApiClient::open(&cluster.kubeconfig(), Some(&host.api_url())).await?;
            self.apis.push((host.name.clone(), api));
            self.stores.push(Etcd::with_tls(&host.store_client_url(), &host.dir.join("certs"))?);
            let (slot, launch) = (cluster.component(&host), cluster.master_launch(&host));
            members.push(Member::new(host, slot, launch));
        }
        self.hosts = Some(Hosts::new(cluster.spec.clone(), members));
        Ok(())
    }

    /// The masters, if the run may break them.
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// A client for each API server, or one for all of them.
    pub fn apis(&self) -> &[(String, ApiClient)] {
        &self.apis
    }

    /// The masters' stores.
    pub fn stores(&self) -> &[Etcd] {
        &self.stores
    }

    /// An image that the nodes have.
    pub fn image(&self) -> &'static str {
        match &self.cluster {
            // Of a stranger's cluster nothing is known but what everybody can pull.
            None => "registry.k8s.io/pause:3.10",
            Some(_) => images::BUSYBOX_IMAGE,
        }
    }

    /// The network namespace of a node that runs containers.
    pub fn node_network(&self) -> Option<String> {
        let spec = self.cluster.as_ref().map(|cluster| &cluster.spec).filter(|spec| spec.has_containers())?;
        spec.worker(1).network_namespace
    }

    /// Makes the run's namespace, and waits until pods can be made in it; the nodes there are.
    ///
    /// # Errors
    /// The API is not usable in time.
    pub async fn prepare(&self, namespace: &str) -> Result<Vec<String>> {
        let (_, api) = self.apis.first().context("there is no API server")?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        let deadline = Instant::now() + USABLE_MAX;
        loop {
            let made = api.create("/api/v1/namespaces", &object).await;
            let found = api.get(&account).await;
            let nodes = api.get("/api/v1/nodes").await;
            if let (Outcome::Done(_), Outcome::Done(nodes)) = (&found, &nodes) {
                return Ok(ready_nodes(nodes));
            }
            if Instant::now() > deadline {
                bail!("the cluster is not usable: namespace {made:?}, account {found:?}, nodes {nodes:?}");
            }
            tokio::time::sleep(TRY_PAUSE).await;
        }
    }

    /// Stops and removes a cluster of our own, its logs apart; from any other the run's namespace is removed.
    ///
    /// # Errors
    /// Something does not let itself be removed.
    pub async fn remove(&mut self) -> Result<()> {
        let Some(cluster) = self.cluster.take() else { return Ok(()) };
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || remove(&cluster, &folder)).await.context("cleaning up panicked")?
    }

    /// Removes the run's objects from a cluster that stays.
    ///
    /// # Errors
    /// The API does not take the request.
    pub async fn leave(&self, namespace: &str) -> Result<()> {
        let (None, Some((_, api))) = (&self.cluster, self.apis.first()) else { return Ok(()) };
        match api.delete(&format!("/api/v1/namespaces/{namespace}")).await {
            Outcome::Done(_) | Outcome::Refused(404, _) => Ok(()),
            other => bail!("the namespace {namespace} stays: {other:?}"),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take()
            && let Err(error) = remove(&cluster, &self.folder)
        {
            tracing::warn!(%error, "the cluster under test is not gone completely");
        }
    }
}

fn lock() -> Result<Flock<fs::File>> {
    let path = std::env::temp_dir().join("xebec-chaos-plane.lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    held.map_err(|_| anyhow::anyhow!("another chaos run works on a control plane on this machine: wait for its end"))
}

fn spec(binary: PathBuf, folder: &Path, hollow: Option<u8>) -> ClusterSpec {
    let (placement, dir, workers) = match nix::unistd::geteuid().is_root() {
        true => (Placement::Namespaces { subnet: SUBNET }, PathBuf::from(PLACE), WORKERS),
        false => (Placement::Loopback { base_port: BASE_PORT }, folder.join("cluster"), 1),
    };
    ClusterSpec { name: NAME.to_owned(), dir, binary, placement, workers, hollow }
}

fn remove(cluster: &Cluster, folder: &Path) -> Result<()> {
    let workers = (1..=cluster.spec.workers).map(|number| cluster.spec.worker(number));
    for host in cluster.spec.masters().into_iter().chain(workers) {
        keep_log(cluster, &host, folder)?;
    }
    cluster::down(cluster)
}

fn keep_log(cluster: &Cluster, host: &Host, folder: &Path) -> Result<()> {
    let slot = cluster.component(host);
    if slot.log().exists() {
        let kept = folder.join(format!("{}.log", host.name));
        fs::copy(slot.log(), &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    }
    Ok(())
}

fn ready_nodes(list: &Value) -> Vec<String> {
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    let items = list["items"].as_array().into_iter().flatten();
    items.filter(ready).filter_map(|node| node["metadata"]["name"].as_str()).map(str::to_owned).collect()
}
