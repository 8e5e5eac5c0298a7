//! What the informers hold: caches as every controller has them, and the means to wait until one of them shows something.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::watch;
use xebec_chaos_core::history::Facts;

/// A cache: object to resourceVersion and facts.
pub type Cache = BTreeMap<String, (u64, Facts)>;

/// All informers' caches, by the informer's name.
#[derive(Debug)]
pub struct World {
    caches: Mutex<BTreeMap<String, Cache>>,
    changes: watch::Sender<u64>,
}

impl World {
    /// Without caches yet.
    pub fn new() -> Self {
        Self { caches: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn caches(&self) -> MutexGuard<'_, BTreeMap<String, Cache>> {
        self.caches.lock().expect("nobody panics while it holds the caches")
    }

    /// A cache begins anew from a list.
    pub(super) fn replace(&self, informer: &str, content: Cache) {
        self.caches().insert(informer.to_owned(), content);
        self.changes.send_modify(|count| *count += 1);
    }

    /// An object changed, or is gone.
    pub(super) fn apply(&self, informer: &str, object: &str, change: Option<(u64, Facts)>) {
        {
            let mut caches = self.caches();
            let cache = caches.entry(informer.to_owned()).or_default();
            match change {
                Some(change) => cache.insert(object.to_owned(), change),
                None => cache.remove(object),
            };
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// All caches as they are.
    pub fn contents(&self) -> BTreeMap<String, Cache> {
        self.caches().clone()
    }

    /// An object as the most advanced cache holds it.
    pub fn object(&self, object: &str) -> Option<Facts> {
        let caches = self.caches();
        let newest = caches.values().filter_map(|cache| cache.get(object)).max_by_key(|(revision, _)| *revision)?;
        Some(newest.1.clone())
    }

    /// Every object as the most advanced cache holds it.
    fn newest(&self) -> Cache {
        let mut newest = Cache::new();
        for (object, (revision, facts)) in self.caches().values().flatten() {
            if newest.get(object).is_none_or(|(known, _)| known < revision) {
                newest.insert(object.clone(), (*revision, facts.clone()));
            }
        }
        newest
    }

    /// Pods with an owner that are on a host's nodes (`n2`, or `n2-0` and so on for those that it only plays) and not on
    /// their way out.
    pub(super) fn owned_pods_on(&self, host: &str) -> usize {
        let on = |facts: &Facts| facts.node == host || facts.node.split('-').next() == Some(host);
        let newest = self.newest();
        let pods = newest.iter().filter(|(object, _)| object.starts_with("pods/"));
        pods.filter(|(_, (_, facts))| on(facts) && !facts.owners.is_empty() && !facts.deleting).count()
    }

    /// Whether every Deployment has what it wants.
    pub(super) fn converged(&self) -> bool {
        let newest = self.newest();
        newest.iter().all(|(object, (_, facts))| !object.starts_with("deployments/") || facts.converged())
    }

    /// Waits until some cache holds the object like this.
    pub async fn until(&self, object: &str, holds: impl Fn(&Facts) -> bool) {
        let mut changes = self.changes.subscribe();
        loop {
            let found = |cache: &Cache| cache.get(object).is_some_and(|(_, facts)| holds(facts));
            let found = self.caches().values().any(found);
            if found || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the newest version of a Lease names another term than this, and says which.
    pub(super) async fn other_term(&self, lease: &str, known: &str) -> String {
        let mut changes = self.changes.subscribe();
        loop {
            let term = self.object(lease).map(|facts| facts.term).unwrap_or_default();
            if term != known || changes.changed().await.is_err() {
                return term;
            }
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
