use super::*;
use crate::testing::Etcd;
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
async fn a_write_without_checks_is_not_repeated_and_no_endpoint_is_no_silent_success() {
    let config = StoreConfig { servers: vec!["http://127.0.0.1:1".into()], ca: None, cert: None, key: None };
    let store = Store::new(&config).expect("client");
    let txn = Txn { puts: vec![("/r/c".into(), Bytes::new())], ..Txn::default() };
    assert!(matches!(store.commit(&txn).await, Err(StoreError::Ambiguous(_))));
}
