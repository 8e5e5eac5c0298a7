//! Feeding the authorizers from the caches.

use super::Authorizer;
use crate::cache::{Cache, Cursor, Event, Snapshot};
use crate::objects::Objects;
use crate::registry::Served;
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
        let served = objects.registry.preferred(group, resource)?;
        Some(follow_one(Arc::clone(&authorizer), Arc::clone(served), objects.cache(served)))
    });
    futures::future::join_all(followers).await;
}

async fn follow_one(authorizer: Arc<Authorizer>, served: Arc<Served>, cache: Arc<Cache>) {
    let resource = served.resource.plural;
    let mut known = Snapshot::default();
    loop {
        while !cache.wait(1, FILL_WAIT).await {}
        let (snapshot, _, cursor) = cache.snapshot_and_cursor();
        for key in known.keys().filter(|key| !snapshot.contains_key(*key)) {
            let (namespace, name) = split(key);
            authorizer.remove(resource, namespace, name);
        }
        for entry in snapshot.values() {
            authorizer.apply(resource, &served.typed(entry.value()));
        }
        known = snapshot;
        drain(&authorizer, &served, cursor, &mut known).await;
    }
}

async fn drain(authorizer: &Authorizer, served: &Served, mut cursor: Cursor, known: &mut Snapshot) {
    while let Ok(batch) = cursor.next().await {
        for event in batch.events {
            change(authorizer, served, &event, known);
        }
    }
}

fn change(authorizer: &Authorizer, served: &Served, event: &Event, known: &mut Snapshot) {
    match &event.current {
        Some(entry) => {
            known.insert(Arc::clone(&event.key), Arc::clone(entry));
            authorizer.apply(served.resource.plural, &served.typed(entry.value()));
        }
        None => {
            known.remove(&event.key);
            let (namespace, name) = split(&event.key);
            authorizer.remove(served.resource.plural, namespace, name);
        }
    }
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}
