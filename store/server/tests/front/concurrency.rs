//! The Lock and Election services.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use xebec_proto::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, kv_client::KvClient, lease_client::LeaseClient,
    },
    v3electionpb::{
        CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest, election_client::ElectionClient,
    },
    v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
};

use crate::processes::{Cluster, PATIENCE, get, wait_for};

async fn grant(channel: &Channel, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { ttl, id: 0 };
    LeaseClient::new(channel.clone()).lease_grant(request).await.unwrap().into_inner().id
}

async fn revoke(channel: &Channel, id: i64) {
    LeaseClient::new(channel.clone()).lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
}

async fn keys(channel: &Channel, prefix: &'static str) -> Vec<String> {
    let range = RangeRequest { range_end: format!("{prefix}\u{7f}").into(), ..get(prefix.as_bytes()) };
    let read = KvClient::new(channel.clone()).range(range).await.unwrap().into_inner();
    read.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

async fn keys_become(channel: &Channel, prefix: &'static str, expected: &[String]) {
    wait_for("keys", || async { (keys(channel, prefix).await == expected).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_passes_to_the_next_in_line_and_clients_that_vanish_leave_it() {
    let cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let channels: Vec<Channel> = (0..3).map(|number| cluster.channel(number)).collect();
    let lock = |number: usize, lease: i64| {
        let mut client = LockClient::new(channels[number].clone());
        async move { client.lock(LockRequest { name: "jobs".into(), lease }).await }
    };
    let (first, second, third) =
        (grant(&channels[0], 60).await, grant(&channels[0], 60).await, grant(&channels[0], 60).await);
    let name = |lease: i64| format!("jobs/{lease:x}");
    let held = lock(0, first).await.unwrap().into_inner();
    assert_eq!(held.key, name(first));
    // Locking again with the same lease answers at once, with the same key.
    assert_eq!(lock(1, first).await.unwrap().into_inner().key, held.key);
    let vanishing = tokio::spawn(lock(1, second));
    let mut expected = vec![name(first), name(second)];
    expected.sort();
    keys_become(&channels[0], "jobs/", &expected).await;
    let waiting = tokio::spawn(lock(2, third));
    let mut all = vec![name(first), name(second), name(third)];
    all.sort();
    keys_become(&channels[0], "jobs/", &all).await;
    // The second in line goes away: its key goes, and its place with it.
    vanishing.abort();
    let mut expected = vec![name(first), name(third)];
    expected.sort();
    keys_become(&channels[0], "jobs/", &expected).await;
    assert!(!waiting.is_finished());
    LockClient::new(channels[1].clone()).unlock(UnlockRequest { key: held.key }).await.unwrap();
    let next = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap().into_inner();
    assert_eq!(next.key, name(third));
    // Without a lease the server grants one; its holder is found in the key.
    revoke(&channels[0], third).await;
    let mut client = LockClient::new(channels[1].clone());
    let owned = client.lock(LockRequest { name: "own".into(), lease: 0 }).await.unwrap().into_inner();
    assert!(owned.key.starts_with(b"own/") && owned.key.len() > 8, "{:?}", owned.key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_refused_to_leases_that_are_gone() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let mut locks = LockClient::new(channel.clone());
    let unknown = locks.lock(LockRequest { name: "jobs".into(), lease: 99 }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::Unknown, "etcdserver: requested lease not found"));
    let (holder, waiter) = (grant(&channel, 60).await, grant(&channel, 60).await);
    locks.lock(LockRequest { name: "jobs".into(), lease: holder }).await.unwrap();
    let mut other = locks.clone();
    let waiting = tokio::spawn(async move { other.lock(LockRequest { name: "jobs".into(), lease: waiter }).await });
    let mut both = vec![format!("jobs/{holder:x}"), format!("jobs/{waiter:x}")];
    both.sort();
    keys_become(&channel, "jobs/", &both).await;
    revoke(&channel, waiter).await;
    revoke(&channel, holder).await;
    let expired = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!((expired.code(), expired.message()), (Code::Unknown, "mutex: session is expired"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_has_one_leader_after_the_other_and_observers_see_them() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let mut elections = ElectionClient::new(channel.clone());
    let by_name = || LeaderRequest { name: "chief".into() };
    let none = elections.leader(by_name()).await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::Unknown, "election: no leader"));
    let mut observed = elections.observe(by_name()).await.unwrap().into_inner();
    let (one, two) = (grant(&channel, 60).await, grant(&channel, 60).await);
    let campaign = |lease: i64, value: &'static str| {
        let mut elections = elections.clone();
        async move { elections.campaign(CampaignRequest { name: "chief".into(), lease, value: value.into() }).await }
    };
    let leader = campaign(one, "one").await.unwrap().into_inner().leader.unwrap();
    assert_eq!((leader.key.clone(), leader.lease), (format!("chief/{one:x}").into(), one));
    let mut next = async || {
        let response = timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
        String::from_utf8_lossy(&response.kv.unwrap().value).into_owned()
    };
    assert_eq!(next().await, "one");
    let mut elections_two = elections.clone();
    let proclaim = |leader: Option<LeaderKey>| ProclaimRequest { leader, value: "one again".into() };
    elections_two.proclaim(proclaim(Some(leader.clone()))).await.unwrap();
    assert_eq!(next().await, "one again");
    let second = tokio::spawn(campaign(two, "two"));
    let mut both = vec![format!("chief/{one:x}"), format!("chief/{two:x}")];
    both.sort();
    keys_become(&channel, "chief/", &both).await;
    let now = elections_two.leader(by_name()).await.unwrap().into_inner().kv.unwrap();
    assert_eq!(now.value, "one again");
    elections_two.resign(ResignRequest { leader: Some(leader.clone()) }).await.unwrap();
    let won = timeout(PATIENCE, second).await.unwrap().unwrap().unwrap().into_inner().leader.unwrap();
    assert_eq!(won.lease, two);
    assert_eq!(next().await, "two");
    let deposed = elections_two.proclaim(proclaim(Some(leader.clone()))).await.unwrap_err();
    assert_eq!((deposed.code(), deposed.message()), (Code::Unknown, "election: not leader"));
    let missing = elections_two.proclaim(proclaim(None)).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::Unknown, "\"leader\" field must be provided"));
    // Resigning twice hurts nobody: the successor stays.
    elections_two.resign(ResignRequest { leader: Some(leader) }).await.unwrap();
    keys_become(&channel, "chief/", &[format!("chief/{two:x}")]).await;
    // A candidate with a deadline gives up its place.
    let three = grant(&channel, 60).await;
    let mut hurried = tonic::Request::new(CampaignRequest { name: "chief".into(), lease: three, value: "3".into() });
    hurried.set_timeout(Duration::from_millis(200));
    assert!(elections_two.campaign(hurried).await.is_err());
    keys_become(&channel, "chief/", &[format!("chief/{two:x}")]).await;
}
