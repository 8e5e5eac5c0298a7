use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        certificates::v1::CertificateSigningRequest,
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, ReplicationController, Secret, Service,
            ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        rbac::v1::ClusterRole,
    },
};
use kube::Api;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Cache, ObjectKey,
    cache::{CacheBuilder, Cached},
};
use xebec_controllers_core::{
    Resource,
    endpoint::{MANAGED_BY, MANAGER, SERVICE_NAME},
    meta::{self, Object},
    node, service_account, token,
};

use crate::execute::Written;

/// Namespace of the nodes' Leases.
const NODE_LEASES: &str = "kube-node-lease";
/// How long a new leader waits for its caches.
const STORE_CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// Index of pods and the like by the UIDs of their owners.
pub(crate) const OWNER: &str = "owner";
/// Index of pods by node.
pub(crate) const NODE: &str = "node";
/// Index of slices by Service.
pub(crate) const SERVICE: &str = "service";

/// A cache that knows how far it has come.
pub(crate) struct Kind<K> {
    cache: Cache<K>,
    /// Highest version seen. Marked changed by every change, deletions included.
    seen: watch::Sender<u64>,
}

impl<K> std::ops::Deref for Kind<K> {
    type Target = Cache<K>;
    fn deref(&self) -> &Cache<K> {
        &self.cache
    }
}

/// Whether a cache shows what this process wrote.
trait Catches: Send + Sync {
    fn catches_up<'a>(&'a self, written: &'a Written) -> BoxFuture<'a, ()>;
}

impl<K: Cached + Object> Kind<K> {
    pub(crate) fn new(cache: Cache<K>) -> Arc<Self> {
        let kind = Arc::new(Self { cache, seen: watch::Sender::new(0) });
        let seen = kind.seen.clone();
        kind.cache.on_change(move |change| {
            let version = change.new.as_ref().and_then(|object| version(&**object));
            seen.send_modify(|highest| *highest = version.unwrap_or(0).max(*highest));
        });
        kind
    }

    fn shows(&self, written: &Written) -> bool {
        let now = self.cache.get(&written.key);
        let gone = || {
            now.as_deref()
                .is_none_or(|object| meta::is_deleting(object) || Some(meta::uid(object)) != written.uid.as_deref())
        };
        match written.version {
            Some(version) if !written.removed => *self.seen.borrow() >= version,
            Some(version) => *self.seen.borrow() >= version || gone(),
            None => gone(),
        }
    }
}

fn version<K: Object>(object: &K) -> Option<u64> {
    object.metadata().resource_version.as_ref()?.parse().ok()
}

impl<K: Cached + Object> Catches for Kind<K> {
    fn catches_up<'a>(&'a self, written: &'a Written) -> BoxFuture<'a, ()> {
        async move {
            let mut changes = self.seen.subscribe();
            // The sender lives as long as `self`, so waiting cannot fail.
            while !self.shows(written) && changes.changed().await.is_ok() {}
        }
        .boxed()
    }
}

/// When a node was last heard of, by our own clock.
#[derive(Clone, Debug, PartialEq)]
struct Heartbeat {
    renewed: Option<Timestamp>,
    posted: Option<Timestamp>,
    heard: Timestamp,
}

/// Everything the controllers see: one cache per kind, shared by all of them, kept warm on masters that do not lead.
pub(crate) struct World {
    pub(crate) pods: Arc<Kind<Pod>>,
    pub(crate) nodes: Arc<Kind<Node>>,
    pub(crate) leases: Arc<Kind<Lease>>,
    pub(crate) namespaces: Arc<Kind<Namespace>>,
    pub(crate) accounts: Arc<Kind<ServiceAccount>>,
    pub(crate) root_cas: Arc<Kind<ConfigMap>>,
    pub(crate) secrets: Arc<Kind<Secret>>,
    pub(crate) services: Arc<Kind<Service>>,
    pub(crate) endpoints: Arc<Kind<Endpoints>>,
    pub(crate) slices: Arc<Kind<EndpointSlice>>,
    pub(crate) replica_sets: Arc<Kind<ReplicaSet>>,
    pub(crate) replication_controllers: Arc<Kind<ReplicationController>>,
    pub(crate) deployments: Arc<Kind<Deployment>>,
    pub(crate) daemon_sets: Arc<Kind<DaemonSet>>,
    pub(crate) stateful_sets: Arc<Kind<StatefulSet>>,
    pub(crate) revisions: Arc<Kind<ControllerRevision>>,
    pub(crate) claims: Arc<Kind<PersistentVolumeClaim>>,
    pub(crate) jobs: Arc<Kind<Job>>,
    pub(crate) requests: Arc<Kind<CertificateSigningRequest>>,
    pub(crate) cluster_roles: Arc<Kind<ClusterRole>>,
    kinds: HashMap<Resource, Arc<dyn Catches>>,
    heartbeats: Arc<Mutex<BTreeMap<String, Heartbeat>>>,
}

struct Opener<'a> {
    client: &'a kube::Client,
    stop: &'a CancellationToken,
    kinds: HashMap<Resource, Arc<dyn Catches>>,
}

impl Opener<'_> {
    fn with<K>(&mut self, build: impl FnOnce(CacheBuilder<K>) -> CacheBuilder<K>) -> Arc<Kind<K>>
    where
        K: Cached + Object,
        <K as k8s_openapi::Resource>::Scope: 'static,
    {
        self.of(Api::all(self.client.clone()), build)
    }

    fn all<K>(&mut self) -> Arc<Kind<K>>
    where
        K: Cached + Object,
        <K as k8s_openapi::Resource>::Scope: 'static,
    {
        self.with(|builder| builder)
    }

    fn of<K>(&mut self, api: Api<K>, build: impl FnOnce(CacheBuilder<K>) -> CacheBuilder<K>) -> Arc<Kind<K>>
    where
        K: Cached + Object,
        <K as k8s_openapi::Resource>::Scope: 'static,
    {
        let kind = Kind::new(build(Cache::builder(api)).start(self.stop.clone()));
        self.kinds.insert(Resource::of::<K>(), kind.clone());
        kind
    }
}

impl World {
    /// Starts every cache. They run until `stop`.
    pub(crate) fn open(client: &kube::Client, stop: &CancellationToken) -> Arc<Self> {
        let mut open = Opener { client, stop, kinds: HashMap::new() };
        let leases = Api::namespaced(client.clone(), NODE_LEASES);
        let root_ca = format!("metadata.name={}", service_account::ROOT_CA_CONFIG_MAP);
        let managed = format!("{MANAGED_BY}={MANAGER}");
        let world = Self {
            pods: open.with(|builder| {
                builder.index(OWNER, xebec_client::cache::by_owner_uid).index(NODE, xebec_client::cache::by_node)
            }),
            nodes: open.all(),
            leases: open.of(leases, |builder| builder),
            namespaces: open.all(),
            accounts: open.all(),
            root_cas: open.with(|builder| builder.fields(&root_ca)),
            secrets: open.with(|builder| builder.transform(forget_secret)),
            services: open.all(),
            endpoints: open.all(),
            slices: open.with(|builder| builder.labels(&managed).index(SERVICE, by_service)),
            replica_sets: owned(&mut open),
            replication_controllers: open.all(),
            deployments: open.all(),
            daemon_sets: open.all(),
            stateful_sets: open.all(),
            revisions: owned(&mut open),
            claims: open.all(),
            jobs: owned(&mut open),
            requests: open.all(),
            cluster_roles: open.all(),
            kinds: open.kinds,
            heartbeats: Arc::default(),
        };
        world.listen();
        Arc::new(world)
    }

    /// Waits until the caches show a write of this process. Kinds without a cache are never waited for.
    pub(crate) async fn catch_up(&self, written: &[Written], bound: Duration) -> bool {
        let wait = async {
            for write in written {
                if let Some(kind) = self.kinds.get(&write.resource) {
                    kind.catches_up(write).await;
                }
            }
        };
        tokio::time::timeout(bound, wait).await.is_ok()
    }

    /// Waits until the caches show what the API server shows now: a new leader that decided on less would repeat what
    /// its predecessor did last. Gives up after a bound, for the caches are then behind for another reason.
    pub(crate) async fn catch_up_with_store(&self, client: &kube::Client) {
        let newest = [
            Resource::of::<Pod>(),
            Resource::of::<ReplicaSet>(),
            Resource::of::<Job>(),
            Resource::of::<Node>(),
            Resource::of::<ControllerRevision>(),
        ]
        .map(|resource| async move {
            latest(client, &resource).await.unwrap_or_else(|error| {
                tracing::debug!(%resource, %error, "cannot see its latest version");
                None
            })
        });
        let writes: Vec<Written> = futures::future::join_all(newest).await.into_iter().flatten().collect();
        if !self.catch_up(&writes, STORE_CATCH_UP_MAX).await {
            tracing::warn!("caches are behind the API server, going on");
        }
    }

    fn listen(&self) {
        let heartbeats = Arc::clone(&self.heartbeats);
        self.leases.on_change(move |change| {
            let Some(lease) = &change.new else { return };
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            let renewed = renewed.map(|time| time.0);
            note(&heartbeats, &change.key.name, |beat| beat.renewed = renewed);
        });
        let heartbeats = Arc::clone(&self.heartbeats);
        self.nodes.on_change(move |change| match &change.new {
            None => {
                heartbeats.lock().remove(&change.key.name);
            }
            Some(node) => {
                let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
                let posted =
                    conditions.filter_map(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0).max();
                note(&heartbeats, &change.key.name, |beat| beat.posted = posted);
            }
        });
    }

    /// When the node was last heard of.
    pub(crate) fn heard(&self, name: &str, now: Timestamp) -> Timestamp {
        self.heartbeats.lock().get(name).map_or(now, |beat| beat.heard)
    }

    /// Whether any node is ready and was heard of within `grace`.
    pub(crate) fn any_node_ready(&self, grace: Duration, now: Timestamp) -> bool {
        self.nodes.list().iter().any(|node| {
            let silence = now.duration_since(self.heard(meta::name(&**node), now));
            node::readiness(node) == "True" && silence.unsigned_abs() < grace
        })
    }
}

fn note(heartbeats: &Mutex<BTreeMap<String, Heartbeat>>, name: &str, change: impl FnOnce(&mut Heartbeat)) {
    let now = Timestamp::now();
    let mut all = heartbeats.lock();
    let beat = all.entry(name.to_owned()).or_insert(Heartbeat { renewed: None, posted: None, heard: now });
    let before = beat.clone();
    change(beat);
    if *beat != before {
        beat.heard = now;
    }
}

fn owned<K>(open: &mut Opener<'_>) -> Arc<Kind<K>>
where
    K: Cached + Object + k8s_openapi::Resource<Scope = NamespaceResourceScope>,
{
    open.with(|builder| builder.index(OWNER, xebec_client::cache::by_owner_uid))
}

fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let service = meta::label(slice, SERVICE_NAME);
    service.map(|name| format!("{}/{name}", meta::namespace(slice))).into_iter().collect()
}

/// Only tokens are of interest, and of those only which keys are filled and when they end.
fn forget_secret(secret: &mut Secret) {
    match secret.type_.as_deref() {
        Some(token::BOOTSTRAP) => {
            if let Some(data) = &mut secret.data {
                data.retain(|key, _| key == "expiration");
            }
        }
        Some(token::SERVICE_ACCOUNT) => {
            for (key, value) in secret.data.iter_mut().flatten() {
                if key == "token" && !value.0.is_empty() {
                    value.0 = b"set".to_vec();
                }
            }
        }
        _ => secret.data = None,
    }
}

/// The newest object of a kind, as a write to wait for.
async fn latest(client: &kube::Client, resource: &Resource) -> Result<Option<Written>, kube::Error> {
    let request = http::Request::get(resource.path(None, None, None))
        .header(
            http::header::ACCEPT,
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
        )
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let list: serde_json::Value = client.request(request).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let newest = items
        .iter()
        .map(|item| &item["metadata"])
        .max_by_key(|meta| meta["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok()));
    Ok(newest.map(|meta| {
        let text = |field: &str| meta[field].as_str().map(str::to_owned);
        Written {
            resource: resource.clone(),
            key: ObjectKey::new(text("namespace").unwrap_or_default(), text("name").unwrap_or_default()),
            uid: text("uid"),
            version: text("resourceVersion").and_then(|version| version.parse().ok()),
            removed: false,
        }
    }))
}

/// The key of an object in a namespace that an owner reference of `object` names.
pub(crate) fn owner_key<K: Object>(object: &K, kind: &str) -> Option<ObjectKey> {
    let owner = meta::controller_of(object.metadata()).filter(|owner| owner.kind == kind)?;
    Some(ObjectKey::new(meta::namespace(object), &owner.name))
}
