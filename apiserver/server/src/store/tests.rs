use super::*;
use crate::testing::{Etcd, Held, client};
use bytes::Bytes;
use std::sync::Arc;
use tokio::task::JoinHandle;

fn put(key: &str, value: &'static str, mod_revision: i64) -> Txn {
    Txn {
        checks: vec![Check::Unchanged { key: key.into(), mod_revision }],
        puts: vec![(key.into(), Bytes::from_static(value.as_bytes()))],
        ..Txn::default()
    }
}

#[tokio::test]
async fn a_write_commits_only_at_the_revision_it_was_made_for() {
    let Some((_etcd, store)) = Etcd::start().await else { return };
    let Outcome::Committed(first) = store.commit(&put("/r/a", "1", 0)).await.expect("answer") else {
        panic!("refused")
    };
    let Outcome::Failed(current) = store.commit(&put("/r/a", "2", 0)).await.expect("answer") else {
        panic!("accepted")
    };
    assert_eq!(current[0].as_ref().expect("there").mod_revision, first);
    assert!(matches!(store.commit(&put("/r/a", "2", first)).await, Ok(Outcome::Committed(_))));
    let (kv, revision) = store.get("/r/a").await.expect("answer");
    assert_eq!((&kv.expect("there").value[..], revision), (&b"2"[..], first + 1));
}

#[tokio::test]
async fn a_write_behind_a_fallen_fence_is_refused() {
    let Some((_etcd, store)) = Etcd::start().await else { return };
    let lease = store.lease_grant(5).await.expect("lease");
    let key = "/xebec.io/leadership/x/1".to_owned();
    let enter = Txn { lease: lease.id, ..put(&key, "me", 0) };
    let Outcome::Committed(create_revision) = store.commit(&enter).await.expect("answer") else { panic!("refused") };
    let fenced = |value| {
        let mut txn = put("/r/b", value, 0);
        txn.checks.push(Check::Standing { key: key.clone(), create_revision });
        txn
    };
    assert!(matches!(store.commit(&fenced("1")).await, Ok(Outcome::Committed(_))));
    store.lease_revoke(lease.id).await.expect("revoked");
    let Outcome::Failed(current) = store.commit(&fenced("1")).await.expect("answer") else { panic!("accepted") };
    assert!(current[1].is_none());
    assert!(!store.lease_renew(lease.id, std::time::Duration::from_secs(2)).await.expect("answer"));
}

#[tokio::test]
async fn a_write_without_checks_is_not_repeated_when_its_fate_is_unknown() {
    let (held, url) = Held::before("127.0.0.1:1").await;
    let store = client(vec![url]);
    let txn = Txn { puts: vec![(held.marker(), Bytes::new())], ..Txn::default() };
    assert!(matches!(store.commit(&txn).await, Err(StoreError::Ambiguous(_))));
}

/// A creation was sent, held up on its way, and repeated elsewhere; then the object was deleted. When the first request
/// arrives at last, the object must not come back.
#[tokio::test]
async fn a_creation_that_arrives_after_its_repetition_was_deleted_does_not_resurrect_the_object() {
    let Some((etcd, _)) = Etcd::start().await else { return };
    let (mut held, proxy) = Held::before(etcd.url.strip_prefix("http://").expect("a scheme")).await;
    let key = held.marker();
    let store = client(vec![proxy, etcd.url.clone()]);
    let Ok(Outcome::Committed(revision)) = store.commit(&put(&key, "1", 0)).await else { panic!("not created") };
    assert_eq!(delete_on_sight(&store, &key).await, revision);
    held.let_go().await;
    assert_eq!(store.get(&key).await.expect("answer").0, None);
    // The server goes on under its new epoch.
    assert!(matches!(store.commit(&put(&key, "2", 0)).await, Ok(Outcome::Committed(_))));
}

/// A creation under way of [`Held::marker`] through a proxy that keeps the answer, applied already.
async fn applied_without_an_answer(etcd: &Etcd) -> (Held, JoinHandle<Result<Outcome, StoreError>>, Arc<Store>) {
    let (mut held, proxy) = Held::before(etcd.url.strip_prefix("http://").expect("a scheme")).await;
    held.keep_answers();
    let store = Arc::new(client(vec![proxy, etcd.url.clone()]));
    let (creation, by) = (put(&held.marker(), "1", 0), Arc::clone(&store));
    let creation = tokio::spawn(async move { by.commit(&creation).await });
    held.has_answered().await;
    (held, creation, store)
}

/// Deletes the key as soon as it sees it, as a controller would; the revision that it saw.
async fn delete_on_sight(store: &Store, key: &str) -> i64 {
    let seen = store.get(key).await.expect("answer").0.expect("created").mod_revision;
    let deletion = Txn {
        checks: vec![Check::Unchanged { key: key.into(), mod_revision: seen }],
        deletes: vec![key.into()],
        ..Txn::default()
    };
    assert!(matches!(store.commit(&deletion).await, Ok(Outcome::Committed(_))));
    seen
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_acknowledged_once() {
    let Some((etcd, direct)) = Etcd::start().await else { return };
    let (mut held, creation, _store) = applied_without_an_answer(&etcd).await;
    held.hang_up();
    let Ok(Outcome::Committed(revision)) = creation.await.expect("no panic") else { panic!("not created") };
    let kv = direct.get(&held.marker()).await.expect("answer").0.expect("there");
    assert_eq!((kv.create_revision, kv.mod_revision), (revision, revision));
}

/// A creation was applied, and its answer lost. Before it is repeated, somebody who watches deletes the object. The
/// creation must be acknowledged as what it was, and the object stay away.
#[tokio::test]
async fn a_creation_that_was_applied_and_deleted_before_its_repetition_does_not_come_back() {
    let Some((etcd, direct)) = Etcd::start().await else { return };
    let (mut held, creation, store) = applied_without_an_answer(&etcd).await;
    let created = delete_on_sight(&direct, &held.marker()).await;
    // More history than one request reads.
    let mut revision = 0;
    for _ in 0..150 {
        let Ok(Outcome::Committed(next)) = direct.commit(&put("/r/other", "x", revision)).await else {
            panic!("refused")
        };
        revision = next;
    }
    held.hang_up();
    let answer = creation.await.expect("no panic");
    assert_eq!(direct.get(&held.marker()).await.expect("answer").0, None, "{answer:?}");
    assert!(matches!(answer, Ok(Outcome::Committed(revision)) if revision == created), "{answer:?}");
    // Whoever creates it anew is somebody else, and may.
    assert!(matches!(store.commit(&put(&held.marker(), "2", 0)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_creation_whose_history_was_compacted_is_not_repeated() {
    let Some((etcd, direct)) = Etcd::start().await else { return };
    let (mut held, creation, _store) = applied_without_an_answer(&etcd).await;
    delete_on_sight(&direct, &held.marker()).await;
    direct.compact(direct.current_revision().await.expect("answer")).await.expect("compacted");
    held.hang_up();
    let answer = creation.await.expect("no panic");
    assert!(matches!(answer, Err(StoreError::Ambiguous(_))), "{answer:?}");
    assert_eq!(direct.get(&held.marker()).await.expect("answer").0, None);
}

/// The store was restored from a snapshot older than the epoch of a running API server: its creations go on, and those
/// that it had under way in the lost history stay away.
#[tokio::test]
async fn a_restored_store_that_has_forgotten_the_epoch_refuses_no_creation() {
    let Some((mut etcd, store)) = Etcd::start().await else { return };
    for value in ["1", "2", "3", "4"] {
        let revision = store.get("/r/a").await.expect("answer").0.map_or(0, |kv| kv.mod_revision);
        assert!(matches!(store.commit(&put("/r/a", value, revision)).await, Ok(Outcome::Committed(_))));
    }
    let before = store.epoch.current(&store).await.expect("an epoch");
    let deadline = || tokio::time::Instant::now() + super::client::REQUEST_TIMEOUT;
    let lost = store.epoch.move_on(&store, before, deadline()).await.expect("moved");
    etcd.lose_everything().await;
    assert!(store.current_revision().await.expect("answer") < lost);
    let created = store.commit(&put("/r/b", "1", 0)).await;
    assert!(matches!(created, Ok(Outcome::Committed(revision)) if revision < lost), "{created:?}");
    let now = store.epoch.current(&store).await.expect("an epoch");
    assert_ne!(now, lost);
    let in_store = store.get("/xebec.io/apiservers/127.0.0.1:6443").await.expect("answer").0;
    assert_eq!(in_store.map(|kv| kv.mod_revision), Some(now));
    // Attempts of the lost history are cut off by the new epoch alone.
    assert_eq!(store.epoch.move_on(&store, lost, deadline()).await.expect("moved"), now);
    assert!(matches!(store.commit(&put("/r/c", "1", 0)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_deletion_behind_a_fence_alone_is_not_repeated_when_its_fate_is_unknown() {
    let (held, url) = Held::before("127.0.0.1:1").await;
    let store = client(vec![url]);
    let checks = vec![Check::Standing { key: "/xebec.io/leadership/x/1".into(), create_revision: 7 }];
    let txn = Txn { checks, deletes: vec![held.marker()], ..Txn::default() };
    assert!(matches!(store.commit(&txn).await, Err(StoreError::Ambiguous(_))));
}

#[tokio::test]
async fn an_epoch_that_moved_on_refuses_nobody() {
    let Some((etcd, store)) = Etcd::start().await else { return };
    assert!(matches!(store.commit(&put("/r/d", "1", 0)).await, Ok(Outcome::Committed(_))));
    // Another process with the same address had something to cut off.
    let other = client(vec![etcd.url.clone()]);
    let deadline = tokio::time::Instant::now() + super::client::REQUEST_TIMEOUT;
    assert_eq!(other.epoch.current(&other).await.expect("an epoch"), 0);
    other.epoch.move_on(&other, 0, deadline).await.expect("moved");
    assert!(matches!(store.commit(&put("/r/e", "1", 0)).await, Ok(Outcome::Committed(_))));
    let Ok(Outcome::Failed(current)) = store.commit(&put("/r/e", "1", 0)).await else { panic!("accepted") };
    assert_eq!(current.len(), 1, "the epoch is nobody else's business");
}
