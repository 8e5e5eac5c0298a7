//! A local copy of all objects of a kind, kept by list and watch.
//!
//! Readers get `Arc`s out of an ordered map; whoever wants to be woken registers a feed, which maps each change to
//! keys, synchronously and in order, and hands them to a deduplicating [`Queue`]. So a slow consumer can never lose a
//! change nor hold up the watch: what waits is bounded by the number of keys.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Resource, runtime::watcher};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::key::ObjectKey;
use crate::queue::Queue;
use crate::reflect;

/// Objects per page of a list, as client-go's pager asks for.
pub const LIST_PAGE_OBJECTS: u32 = 500;

/// What a kind must be to be cached: any type of k8s-openapi, or [`kube::core::DynamicObject`]-like static types.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cached for K {}

/// One change of one object, as seen by a feed.
pub struct Change<K> {
    /// Which object.
    pub key: ObjectKey,
    /// What the cache held before.
    pub old: Option<Arc<K>>,
    /// What it holds now; `None` once deleted.
    pub new: Option<Arc<K>>,
}

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;
type Strip<K> = Box<dyn Fn(&mut K) + Send + Sync>;
type Feed<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Prepares a [`Cache`]: which objects, which indexes.
pub struct CacheBuilder<K> {
    api: Api<K>,
    config: watcher::Config,
    indexes: HashMap<&'static str, IndexFn<K>>,
    transform: Option<Strip<K>>,
}

impl<K: Cached> CacheBuilder<K> {
    /// Restricts the cache to objects matching a field selector.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.config = self.config.fields(selector);
        self
    }

    /// Restricts the cache to objects matching a label selector.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    /// Adds an index: [`Cache::indexed`] then finds objects by the values `values` derives from them.
    #[must_use]
    pub fn index(mut self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.indexes.insert(name, Box::new(values));
        self
    }

    /// Strips what nobody reads before an object enters the cache (`managedFields` always goes).
    #[must_use]
    pub fn transform(mut self, strip: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.transform = Some(Box::new(strip));
        self
    }

    /// Starts the watch. It ends with `stop`.
    pub fn start(self, stop: CancellationToken) -> Cache<K> {
        let cache = Cache::empty(self.indexes);
        let strip = self.transform.unwrap_or_else(|| Box::new(|_| {}));
        tokio::spawn(reflect::run(self.api, self.config, strip, cache.clone(), stop));
        cache
    }
}

/// A local copy of all objects of a kind. Clones share it.
pub struct Cache<K>(Arc<Inner<K>>);

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K> {
    store: RwLock<Store<K>>,
    /// Held while a change is applied and told, so that every feed sees every change once and in order.
    feeds: Mutex<Vec<Feed<K>>>,
    indexes: HashMap<&'static str, IndexFn<K>>,
    synced: watch::Sender<bool>,
}

struct Store<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexed: HashMap<&'static str, HashMap<String, BTreeSet<ObjectKey>>>,
}

impl<K: Cached> Cache<K> {
    /// A cache of all objects `api` can see, with bounded pages and bookmarks.
    pub fn builder(api: Api<K>) -> CacheBuilder<K> {
        let config = watcher::Config::default().page_size(LIST_PAGE_OBJECTS);
        CacheBuilder { api, config, indexes: HashMap::new(), transform: None }
    }

    /// A cache without further settings, of all objects of the kind.
    pub fn start(client: kube::Client, stop: CancellationToken) -> Self {
        Self::builder(Api::all(client)).start(stop)
    }

    /// A cache without a watch, filled by hand: for tests of what is built on caches.
    pub fn fixed(objects: impl IntoIterator<Item = K>) -> Self {
        let cache = Self::empty(HashMap::new());
        cache.replace(objects.into_iter().collect());
        cache
    }

    fn empty(indexes: HashMap<&'static str, IndexFn<K>>) -> Self {
        let indexed = indexes.keys().map(|name| (*name, HashMap::new())).collect();
        Self(Arc::new(Inner {
            store: RwLock::new(Store { objects: BTreeMap::new(), indexed }),
            feeds: Mutex::default(),
            indexes,
            synced: watch::Sender::new(false),
        }))
    }

    /// The object of this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.0.store.read().objects.get(key).cloned()
    }

    /// All objects, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.store.read().objects.values().cloned().collect()
    }

    /// All keys, ordered.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.0.store.read().objects.keys().cloned().collect()
    }

    /// All objects of a namespace, ordered by name; costs only those.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        let store = self.0.store.read();
        let range = store.objects.range(first..).take_while(|(key, _)| key.namespace == namespace);
        range.map(|(_, object)| object.clone()).collect()
    }

    /// The objects an index holds under `value`, ordered by key. Empty for an index that was not declared.
    pub fn indexed(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        let store = self.0.store.read();
        let keys = store.indexed.get(index).and_then(|values| values.get(value));
        keys.into_iter().flatten().filter_map(|key| store.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.store.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until the first list is complete. Never returns if the cache is stopped before that.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        if synced.wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Calls `feed` for every object there is (as new) and then for every change, synchronously and in order.
    ///
    /// It must be quick and must not register feeds on the same cache; reading any cache is fine.
    pub fn on_change(&self, feed: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut feeds = self.0.feeds.lock();
        let present: Vec<_> = {
            let store = self.0.store.read();
            store.objects.iter().map(|(key, object)| (key.clone(), object.clone())).collect()
        };
        for (key, object) in present {
            feed(&Change { key, old: None, new: Some(object) });
        }
        feeds.push(Box::new(feed));
    }

    /// Adds to `queue` the key of every object that there is or that changes.
    pub fn feed(&self, queue: &Queue<ObjectKey>) {
        let queue = queue.clone();
        self.on_change(move |change| queue.add(change.key.clone()));
    }

    /// Adds to `queue` the keys that `keys` derives from each change; it is asked for the old and the new object.
    pub fn feed_with<Q>(&self, queue: &Queue<Q>, keys: impl Fn(&K) -> Vec<Q> + Send + Sync + 'static)
    where
        Q: Clone + Eq + Hash + Send + Debug + 'static,
    {
        let queue = queue.clone();
        self.on_change(move |change| {
            for object in [&change.old, &change.new].into_iter().flatten() {
                keys(object).into_iter().for_each(|key| queue.add(key));
            }
        });
    }

    /// Puts an object in (tests, and the watch).
    pub fn apply(&self, object: K) {
        self.change(ObjectKey::of(&object), Some(Arc::new(object)), &self.0.feeds.lock());
    }

    /// Takes an object out (tests, and the watch).
    pub fn remove(&self, key: &ObjectKey) {
        self.change(key.clone(), None, &self.0.feeds.lock());
    }

    /// Replaces everything after a list: feeds hear only of what differs.
    pub(crate) fn replace(&self, objects: Vec<K>) {
        let feeds = self.0.feeds.lock();
        let fresh: BTreeMap<_, _> = objects.into_iter().map(|object| (ObjectKey::of(&object), object)).collect();
        let gone: Vec<_> = self.keys().into_iter().filter(|key| !fresh.contains_key(key)).collect();
        gone.into_iter().for_each(|key| self.change(key, None, &feeds));
        for (key, object) in fresh {
            self.change(key, Some(Arc::new(object)), &feeds);
        }
        self.0.synced.send_replace(true);
    }

    fn change(&self, key: ObjectKey, new: Option<Arc<K>>, feeds: &[Feed<K>]) {
        let old = {
            let mut store = self.0.store.write();
            let old = match &new {
                Some(object) => store.objects.insert(key.clone(), object.clone()),
                None => store.objects.remove(&key),
            };
            for (name, values) in &self.0.indexes {
                let index = store.indexed.entry(name).or_default();
                reindex(index, &key, old.as_deref().map(values), new.as_deref().map(values));
            }
            old
        };
        let unchanged = match (&old, &new) {
            (None, None) => true,
            (Some(old), Some(new)) => same_version(old.as_ref(), new.as_ref()),
            _ => false,
        };
        if !unchanged {
            let change = Change { key, old, new };
            feeds.iter().for_each(|feed| feed(&change));
        }
    }
}

fn same_version<K: Resource>(old: &K, new: &K) -> bool {
    let version = &old.meta().resource_version;
    version.is_some() && *version == new.meta().resource_version && old.meta().uid == new.meta().uid
}

fn reindex(
    index: &mut HashMap<String, BTreeSet<ObjectKey>>,
    key: &ObjectKey,
    old: Option<Vec<String>>,
    new: Option<Vec<String>>,
) {
    if old == new {
        return;
    }
    for value in old.into_iter().flatten() {
        if let Some(keys) = index.get_mut(&value) {
            keys.remove(key);
            if keys.is_empty() {
                index.remove(&value);
            }
        }
    }
    for value in new.into_iter().flatten() {
        index.entry(value).or_default().insert(key.clone());
    }
}

/// The owner that controls an object, if any (`metav1.GetControllerOf`).
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Index function: the uids of all owners.
pub fn by_owner_uid<K: Resource>(object: &K) -> Vec<String> {
    object.meta().owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
}

/// Index function: the node a pod is bound to.
pub fn by_node(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|spec| spec.node_name.clone()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(namespace: &str, name: &str, version: &str, node: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": version, "uid": name},
            "spec": {"nodeName": node, "containers": []},
        }))
        .unwrap()
    }

    fn names(pods: Vec<Arc<Pod>>) -> Vec<String> {
        pods.iter().map(|pod| ObjectKey::of(pod.as_ref()).to_string()).collect()
    }

    #[test]
    fn indexes_follow_changes_and_relists() {
        let mut indexes: HashMap<&'static str, IndexFn<Pod>> = HashMap::new();
        indexes.insert("node", Box::new(by_node));
        let cache = Cache::empty(indexes);
        cache.apply(pod("a", "x", "1", "n1"));
        cache.apply(pod("b", "y", "2", "n1"));
        assert_eq!(names(cache.indexed("node", "n1")), ["a/x", "b/y"]);
        cache.apply(pod("a", "x", "3", "n2"));
        assert_eq!(names(cache.indexed("node", "n1")), ["b/y"]);
        assert_eq!(names(cache.namespace("a")), ["a/x"]);
        cache.replace(vec![pod("c", "z", "4", "n2")]);
        assert_eq!(names(cache.indexed("node", "n1")), [""; 0]);
        assert_eq!(names(cache.indexed("node", "n2")), ["c/z"]);
    }

    #[test]
    fn feeds_hear_what_is_there_and_what_differs_after_a_relist() {
        let cache = Cache::fixed([pod("a", "same", "1", ""), pod("a", "gone", "1", ""), pod("a", "new", "1", "")]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        cache.on_change(move |change| sink.lock().push((change.key.name.clone(), change.new.is_some())));
        assert_eq!(heard.lock().len(), 3);
        heard.lock().clear();
        cache.replace(vec![pod("a", "same", "1", ""), pod("a", "new", "2", "")]);
        assert_eq!(*heard.lock(), [("gone".to_owned(), false), ("new".to_owned(), true)]);
    }
}
