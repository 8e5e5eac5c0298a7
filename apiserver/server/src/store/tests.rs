use super::*;
use crate::testing::{Etcd, Held, client};
use bytes::Bytes;

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
    let deletion = Txn {
        checks: vec![Check::Unchanged { key: key.clone(), mod_revision: revision }],
        deletes: vec![key.clone()],
        ..Txn::default()
    };
    assert!(matches!(store.commit(&deletion).await, Ok(Outcome::Committed(_))));
    held.let_go().await;
    assert_eq!(store.get(&key).await.expect("answer").0, None);
    // The server goes on under its new epoch.
    assert!(matches!(store.commit(&put(&key, "2", 0)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_acknowledged_once() {
    let Some((etcd, direct)) = Etcd::start().await else { return };
    let (mut held, proxy) = Held::before(etcd.url.strip_prefix("http://").expect("a scheme")).await;
    held.answers_are_lost();
    let key = held.marker();
    let store = client(vec![proxy, etcd.url.clone()]);
    let Ok(Outcome::Committed(revision)) = store.commit(&put(&key, "1", 0)).await else { panic!("not created") };
    let (kv, _) = direct.get(&key).await.expect("answer");
    let kv = kv.expect("there");
    assert_eq!((kv.create_revision, kv.mod_revision), (revision, revision));
}

#[tokio::test]
async fn an_epoch_that_moved_on_refuses_nobody() {
    let Some((etcd, store)) = Etcd::start().await else { return };
    assert!(matches!(store.commit(&put("/r/d", "1", 0)).await, Ok(Outcome::Committed(_))));
    // Another process with the same address had something to cut off.
    let other = client(vec![etcd.url.clone()]);
    let deadline = tokio::time::Instant::now() + super::client::REQUEST_TIMEOUT;
    other.epoch.move_on(&other, 0, deadline).await.expect("moved");
    assert!(matches!(store.commit(&put("/r/e", "1", 0)).await, Ok(Outcome::Committed(_))));
    let Ok(Outcome::Failed(current)) = store.commit(&put("/r/e", "1", 0)).await else { panic!("accepted") };
    assert_eq!(current.len(), 1, "the epoch is nobody else's business");
}
