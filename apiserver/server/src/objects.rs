//! Objects in the store and in the caches, by resource.

use crate::cache::{Cache, Caches, Decode, Entry};
use crate::registry::{Registry, Served};
use crate::store::{Store, prefix_end};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use xebec_api::{Status, codec, meta};

/// Time a reader of cached objects waits for a cache that has just been started.
const FILL_WAIT: Duration = Duration::from_secs(2);

/// Objects read from the store at once.
const PAGE_OBJECTS: i64 = 500;

/// A stored object.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Full key.
    pub key: String,
    /// The object, with its resourceVersion, in the version it was asked for.
    pub object: Value,
    /// Revision of its last change.
    pub revision: i64,
}

/// Access to all objects.
pub struct Objects {
    /// The store.
    pub store: Arc<Store>,
    /// The caches.
    pub caches: Caches,
    /// What is served.
    pub registry: Registry,
    prefix: String,
}

impl Objects {
    /// Objects under `prefix` (`/registry`).
    pub fn new(store: Arc<Store>, caches: Caches, registry: Registry, prefix: &str) -> Self {
        let prefix = format!("/{}", prefix.trim_matches('/'));
        Self { store, caches, registry, prefix }
    }

    /// Key behind the store's prefix.
    pub fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.prefix)
    }

    /// Prefix of a resource's keys, ending in a slash.
    pub fn prefix_of(&self, served: &Served) -> String {
        format!("{}/{}/", self.prefix, served.storage_path)
    }

    /// Key of an object.
    pub fn key(&self, served: &Served, namespace: &str, name: &str) -> String {
        format!("{}{}", self.prefix_of(served), served.local_key(namespace, name))
    }

    /// Reads an object from the store.
    pub async fn get(&self, served: &Served, namespace: &str, name: &str) -> Result<Option<Stored>, Status> {
        let key = self.key(served, namespace, name);
        let (found, _) = self.store.get(&key).await?;
        let Some(kv) = found else { return Ok(None) };
        let object = served.decode(&kv.value, kv.mod_revision)?;
        Ok(Some(Stored { key, object, revision: kv.mod_revision }))
    }

    /// Reads an object from the store as the cache would hold it.
    pub async fn get_entry(&self, served: &Served, namespace: &str, name: &str) -> Result<Option<Entry>, Status> {
        let (found, _) = self.store.get(&self.key(served, namespace, name)).await?;
        let local = served.local_key(namespace, name);
        found.map(|kv| self.entry(served, &local, &kv.value, kv.mod_revision)).transpose()
    }

    /// An entry of stored bytes.
    pub fn entry(&self, served: &Served, key: &str, stored: &Bytes, revision: i64) -> Result<Entry, Status> {
        decode_entry(served, stored, revision).map_err(|error| Status::internal_error(&format!("{key}: {error}")))
    }

    /// The cache of a resource.
    pub fn cache(&self, served: &Arc<Served>) -> Arc<Cache> {
        let decode = || -> Decode {
            let served = Arc::clone(served);
            Arc::new(move |_, stored, revision| decode_entry(&served, stored, revision))
        };
        self.caches.cache(&self.prefix_of(served), decode)
    }

    /// An object as the cache knows it, or, if it does not, as the store does.
    pub async fn cached(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let served = self.served(group, resource)?;
        let cache = self.cache(served);
        if cache.wait(1, FILL_WAIT).await {
            let entry = cache.snapshot().0.get(served.local_key(namespace, name).as_str()).cloned();
            if let Some(entry) = entry {
                return Ok(Some(served.typed(entry.value())));
            }
        }
        Ok(self.get(served, namespace, name).await?.map(|stored| stored.object))
    }

    /// An object as the store knows it, and the revision of its last change.
    pub async fn live(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(Value, i64)>, Status> {
        let served = self.served(group, resource)?;
        Ok(self.get(served, namespace, name).await?.map(|stored| (stored.object, stored.revision)))
    }

    /// All cached objects of a resource in a namespace (empty: everywhere).
    pub async fn all_cached(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let served = self.served(group, resource)?;
        let cache = self.cache(served);
        if !cache.wait(1, FILL_WAIT).await {
            return Err(Status::service_unavailable("the cache is not filled yet").with_retry_after_seconds(1));
        }
        let prefix = served.local_prefix(namespace);
        let (snapshot, _) = cache.snapshot();
        let range = snapshot.range(Arc::<str>::from(prefix.as_str())..).take_while(|(key, _)| key.starts_with(&prefix));
        Ok(range.map(|(_, entry)| served.typed(entry.value())).collect())
    }

    /// All objects of a resource as the store knows them, at one revision.
    pub async fn all_stored(&self, group: &str, resource: &str) -> Result<Vec<Value>, Status> {
        let served = self.served(group, resource)?;
        let prefix = self.prefix_of(served);
        let (mut start, end) = (prefix.clone().into_bytes(), prefix_end(prefix.as_bytes()));
        let (mut objects, mut revision) = (Vec::new(), 0);
        loop {
            let page = self.store.list(&start, &end, PAGE_OBJECTS, revision).await?;
            revision = page.revision.max(revision);
            for kv in &page.kvs {
                objects.push(served.decode(&kv.value, kv.mod_revision)?);
            }
            match page.kvs.last() {
                // The first key behind it.
                Some(last) if page.more => start = [&last.key[..], &[0]].concat(),
                _ => return Ok(objects),
            }
        }
    }

    fn served(&self, group: &str, resource: &str) -> Result<&Arc<Served>, Status> {
        self.registry
            .preferred(group, resource)
            .ok_or_else(|| Status::internal_error(&format!("{resource}.{group} is not served")))
    }
}

fn decode_entry(served: &Served, stored: &Bytes, revision: i64) -> Result<Entry, String> {
    let mut object = codec::decode_any(stored).map_err(|error| error.to_string())?;
    meta::set_resource_version(&mut object, revision.unsigned_abs());
    let labels = meta::labels(&object).cloned().unwrap_or_default();
    let fields = served.fields(&object);
    if let Some(map) = object.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    let json = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
    Ok(Entry::new(revision, labels, fields, Bytes::from(json)).with_stored(stored.clone()))
}
