//! The garbage collector's eyes: a metadata-only watch of every kind, feeding the ownership graph.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use xebec_client::{ObjectKey, Queue, failure};
use xebec_controllers_core::{
    Action, Resource,
    garbage::{self, Graph, Item},
    meta,
};

use crate::{context::Context, discovery::Discovery, execute::Executor};

/// Absent owners remembered; a UID that is gone never comes back.
const ABSENT_OWNERS_MAX: usize = 1_000;
/// Pause before kinds are discovered again after a definition changed: several change at once, and serving follows.
const REDISCOVER: Duration = Duration::from_secs(2);
/// Pause after a discovery in which some groups failed.
const REDISCOVER_FAILED: Duration = Duration::from_secs(15);
/// How long to wait before an owner of an unknown kind is asked for again.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);
/// Objects per page of a list.
const PAGE_OBJECTS: u32 = 500;

type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// The graph of every object, kept by watches.
#[derive(Default)]
pub(crate) struct Garbage {
    graph: Mutex<Graph>,
    queue: Mutex<Option<Queue<ObjectKey>>>,
    /// Kinds whose first list is not complete; `None` before the first discovery.
    unsynced: watch::Sender<Option<usize>>,
    /// Told the namespace of every object that is gone.
    listeners: Mutex<Vec<Listener>>,
    absent: Mutex<HashSet<String>>,
    rediscover: Notify,
}

impl Garbage {
    /// Watches every kind until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, client: Client, discovery: Arc<Discovery>, stop: CancellationToken) {
        let work = async {
            let mut watches: BTreeMap<Resource, CancellationToken> = BTreeMap::new();
            loop {
                let failed = self.follow_discovery(&client, &discovery, &mut watches, &stop).await;
                let retry = async {
                    if failed {
                        tokio::time::sleep(REDISCOVER_FAILED).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = self.rediscover.notified() => tokio::time::sleep(REDISCOVER).await,
                    () = retry => {}
                }
                discovery.forget();
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Starts watches of new kinds and ends those of kinds that are no more. Returns whether some could not be seen.
    async fn follow_discovery(
        self: &Arc<Self>,
        client: &Client,
        discovery: &Discovery,
        watches: &mut BTreeMap<Resource, CancellationToken>,
        stop: &CancellationToken,
    ) -> bool {
        let catalog = match discovery.catalog(client).await {
            Ok(catalog) => catalog,
            Err(error) => {
                tracing::warn!(%error, "cannot discover what the API server serves");
                return true;
            }
        };
        let wanted: BTreeSet<Resource> = catalog
            .kinds
            .iter()
            .filter(|served| served.allows(&["list", "watch", "delete"]))
            .map(|served| served.resource.clone())
            .filter(|resource| resource.plural != "events")
            .collect();
        if catalog.failures.is_empty() {
            watches.retain(|resource, watch| {
                let kept = wanted.contains(resource);
                if !kept {
                    watch.cancel();
                }
                kept
            });
        }
        for resource in wanted {
            if watches.contains_key(&resource) {
                continue;
            }
            let end = stop.child_token();
            watches.insert(resource.clone(), end.clone());
            self.unsynced.send_modify(|count| *count = Some(count.unwrap_or(0) + 1));
            let (garbage, client) = (Arc::clone(self), client.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = garbage.watch_kind(client, &resource) => {}
                }
            });
        }
        self.unsynced.send_modify(|count| *count = Some(count.unwrap_or(0)));
        !catalog.failures.is_empty()
    }

    async fn watch_kind(&self, client: Client, resource: &Resource) {
        let kind = ApiResource {
            group: resource.group.to_string(),
            version: resource.version.to_string(),
            api_version: resource.api_version(),
            kind: resource.kind.to_string(),
            plural: resource.plural.to_string(),
        };
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind);
        let config = watcher::Config::default().page_size(PAGE_OBJECTS);
        let mut events = pin!(watcher(api, config).default_backoff());
        let defines_kinds = matches!(&*resource.plural, "customresourcedefinitions" | "apiservices");
        let mut known: HashMap<ObjectKey, String> = HashMap::new();
        let mut listed: HashMap<ObjectKey, String> = HashMap::new();
        let mut synced = false;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::debug!(%resource, %error, "watch interrupted, resuming");
                    continue;
                }
            };
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(object) => listed.extend(self.note(resource, &object)),
                watcher::Event::InitDone => {
                    let gone = known.iter().filter(|(key, uid)| listed.get(*key) != Some(*uid));
                    for (key, uid) in gone {
                        self.drop_item(&key.namespace, uid);
                    }
                    known = std::mem::take(&mut listed);
                    if !synced {
                        synced = true;
                        self.unsynced.send_modify(|count| *count = count.map(|n| n.saturating_sub(1)));
                    }
                }
                watcher::Event::Apply(object) => {
                    let before = known.get(&key_of(&object)).cloned();
                    if let Some((key, uid)) = self.note(resource, &object) {
                        if let Some(before) = before.filter(|before| *before != uid) {
                            self.drop_item(&key.namespace, &before);
                        }
                        known.insert(key, uid);
                    }
                    if defines_kinds {
                        self.rediscover.notify_one();
                    }
                }
                watcher::Event::Delete(object) => {
                    let key = key_of(&object);
                    let uid = object.metadata.uid.clone().or_else(|| known.get(&key).cloned());
                    known.remove(&key);
                    if let Some(uid) = uid {
                        self.drop_item(&key.namespace, &uid);
                    }
                    if defines_kinds {
                        self.rediscover.notify_one();
                    }
                }
            }
        }
    }

    fn note(&self, resource: &Resource, object: &PartialObjectMeta<DynamicObject>) -> Option<(ObjectKey, String)> {
        let item = Item::new(resource, &object.metadata)?;
        let uid = item.uid.clone();
        let wake = self.graph.lock().upsert(item);
        self.wake_all(wake);
        Some((key_of(object), uid))
    }

    fn drop_item(&self, namespace: &str, uid: &str) {
        let wake = self.graph.lock().remove(uid);
        self.wake_all(wake);
        if !namespace.is_empty() {
            self.listeners.lock().iter().for_each(|listener| listener(namespace));
        }
    }

    fn wake_all(&self, uids: Vec<String>) {
        if let Some(queue) = &*self.queue.lock() {
            uids.into_iter().for_each(|uid| queue.add(ObjectKey::cluster(uid)));
        }
    }

    /// Sends every suspect to `queue` from now on.
    pub(crate) fn wake(&self, queue: &Queue<ObjectKey>) {
        *self.queue.lock() = Some(queue.clone());
    }

    /// Sends to `queue` the name of a namespace that ends whenever an object in it is gone.
    pub(crate) fn wake_namespaces(&self, context: &Arc<Context>, queue: &Queue<ObjectKey>) {
        let (world, queue) = (Arc::downgrade(&context.world), queue.clone());
        self.listeners.lock().push(Box::new(move |namespace| {
            let key = ObjectKey::cluster(namespace);
            let object = world.upgrade().and_then(|world| world.namespaces.get(&key));
            if object.is_some_and(|object| meta::is_deleting(&*object)) {
                queue.add(key);
            }
        }));
    }

    /// Waits until every kind known at first has been listed.
    pub(crate) async fn complete(&self) {
        let mut unsynced = self.unsynced.subscribe();
        if unsynced.wait_for(|count| *count == Some(0)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Every object that might be garbage.
    pub(crate) fn suspects(&self) -> Vec<ObjectKey> {
        self.graph.lock().suspects().into_iter().map(ObjectKey::cluster).collect()
    }

    /// Whether an owner is known to be gone for ever.
    fn is_known_absent(&self, uid: &str) -> bool {
        self.absent.lock().contains(uid)
    }

    fn remember_absent(&self, uid: &str) {
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_OWNERS_MAX {
            absent.clear();
        }
        absent.insert(uid.to_owned());
    }
}

fn key_of(object: &PartialObjectMeta<DynamicObject>) -> ObjectKey {
    let meta = &object.metadata;
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Asks for owners the graph does not know, then decides.
pub(crate) fn decide<'a>(
    context: &'a Context,
    executor: &'a Executor,
    key: &'a ObjectKey,
) -> BoxFuture<'a, Result<Vec<Action>, kube::Error>> {
    async move {
        let garbage = &context.garbage;
        let (owners, namespace) = {
            let graph = garbage.graph.lock();
            let Some(item) = graph.get(&key.name) else { return Ok(Vec::new()) };
            (graph.unknown_owners(&key.name), item.target.namespace.clone())
        };
        let mut absent = BTreeSet::new();
        for owner in owners {
            match ask(context, executor, &owner, namespace.as_deref()).await? {
                Standing::Absent => {
                    garbage.remember_absent(&owner.uid);
                    absent.insert(owner.uid);
                }
                Standing::Present => {}
                Standing::Unknown => return Ok(vec![Action::Wake { after: UNKNOWN_KIND }]),
            }
        }
        let graph = garbage.graph.lock();
        Ok(garbage::reconcile(&garbage::Observed { graph: &graph, uid: &key.name, absent }))
    }
    .boxed()
}

enum Standing {
    Present,
    Absent,
    /// The owner's kind is not served: nothing can be said, so nothing is deleted.
    Unknown,
}

async fn ask(
    context: &Context,
    executor: &Executor,
    owner: &OwnerReference,
    namespace: Option<&str>,
) -> Result<Standing, kube::Error> {
    if context.garbage.is_known_absent(&owner.uid) {
        return Ok(Standing::Absent);
    }
    let catalog = context.discovery.catalog(&executor.client).await?;
    let Some(resource) = catalog.find(&owner.api_version, &owner.kind) else {
        return Ok(Standing::Unknown);
    };
    if resource.namespaced && namespace.is_none() {
        // A namespaced object cannot own one of the cluster's scope; upstream leaves such objects alone too.
        return Ok(Standing::Unknown);
    }
    let request = Request::get(resource.path(namespace, Some(&owner.name), None))
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match executor.client.request::<Value>(request).await {
        Ok(object) if object["metadata"]["uid"] == owner.uid.as_str() => Ok(Standing::Present),
        Ok(_) => Ok(Standing::Absent),
        Err(error) if failure::is_not_found(&error) => Ok(Standing::Absent),
        Err(error) => Err(error),
    }
}
