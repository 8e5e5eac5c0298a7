use super::*;
use crate::store::{Check, Outcome, Txn};
use crate::testing::Etcd;
use bytes::Bytes;
use std::collections::BTreeMap;

fn decode() -> Decode {
    Arc::new(|_, value, revision| Ok(Entry::new(revision, serde_json::Map::new(), BTreeMap::new(), value.clone())))
}

async fn put(store: &Store, key: &str, value: &'static str) -> i64 {
    let (current, _) = store.get(key).await.expect("answer");
    let mod_revision = current.map_or(0, |kv| kv.mod_revision);
    let txn = Txn {
        checks: vec![Check::Unchanged { key: key.into(), mod_revision }],
        puts: vec![(key.into(), Bytes::from_static(value.as_bytes()))],
        ..Txn::default()
    };
    match store.commit(&txn).await.expect("answer") {
        Outcome::Committed(revision) => revision,
        Outcome::Failed(_) => panic!("conflict"),
    }
}

#[tokio::test]
async fn a_cache_shows_what_was_written_before_and_after_it_began() {
    let Some((_etcd, store)) = Etcd::start().await else { return };
    let stop = CancellationToken::new();
    put(&store, "/r/pods/a/x", "1").await;
    put(&store, "/r/pods/a/y", "1").await;
    put(&store, "/r/podsother", "1").await;
    let caches = Caches::new(Arc::clone(&store), stop.clone());
    let cache = caches.cache("/r/pods/", decode);
    let limit = Duration::from_secs(10);
    assert!(cache.wait(1, limit).await);
    if cache.is_exact() {
        // A revision of another resource is reached by asking for progress.
        let other = put(&store, "/r/other", "1").await;
        assert!(cache.wait(other, limit).await);
    }
    let (snapshot, revision, mut cursor) = cache.snapshot_and_cursor();
    assert_eq!(snapshot.keys().map(ToString::to_string).collect::<Vec<_>>(), ["a/x", "a/y"]);
    let last = put(&store, "/r/pods/a/x", "2").await;
    assert!(last > revision);
    let batch = cursor.next().await.expect("events");
    assert_eq!((batch.revision, batch.events.len()), (last, 1));
    assert_eq!(batch.events[0].previous.as_ref().map(|entry| &entry.json[..]), Some(&b"1"[..]));
    assert!(cache.wait(last, limit).await);
    stop.cancel();
}
