//! Feeding the authorizers from the caches.

use super::Authorizer;
use crate::cache::{Cache, Cursor, Event, Snapshot};
use crate::objects::Objects;
use std::sync::Arc;
use std::time::Duration;

/// What authorization depends on.
const FOLLOWED: [(&str, &str); 7] = [
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
];
/// Interval at which a cache that is not filled is looked at again; the wait itself is by notification.
const FILL_WAIT: Duration = Duration::from_secs(5);

pub(super) async fn follow(authorizer: Arc<Authorizer>, objects: Arc<Objects>) {
    let followers = FOLLOWED.into_iter().filter_map(|(group, resource)| {
        let cache = objects.cache_of(group, resource)?;
        Some(follow_one(Arc::clone(&authorizer), resource, cache))
    });
    futures::future::join_all(followers).await;
}

async fn follow_one(authorizer: Arc<Authorizer>, resource: &'static str, cache: Arc<Cache>) {
    let mut known = Snapshot::default();
    loop {
        while !cache.wait(1, FILL_WAIT).await {}
        let (snapshot, _, cursor) = cache.snapshot_and_cursor();
        for key in known.keys().filter(|key| !snapshot.contains_key(*key)) {
            let (namespace, name) = split(key);
            authorizer.remove(resource, namespace, name);
        }
        for entry in snapshot.values() {
            authorizer.apply(resource, &entry.value());
        }
        known = snapshot;
        drain(&authorizer, resource, cursor, &mut known).await;
    }
}

async fn drain(authorizer: &Authorizer, resource: &str, mut cursor: Cursor, known: &mut Snapshot) {
    while let Ok(batch) = cursor.next().await {
        for event in batch.events {
            change(authorizer, resource, &event, known);
        }
    }
}

fn change(authorizer: &Authorizer, resource: &str, event: &Event, known: &mut Snapshot) {
    match &event.current {
        Some(entry) => {
            known.insert(Arc::clone(&event.key), Arc::clone(entry));
            authorizer.apply(resource, &entry.value());
        }
        None => {
            known.remove(&event.key);
            let (namespace, name) = split(&event.key);
            authorizer.remove(resource, namespace, name);
        }
    }
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}
