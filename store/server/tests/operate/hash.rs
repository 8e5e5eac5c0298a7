//! `HashKV` is etcd's, bit for bit.

use xebec_proto::etcdserverpb::{
    HashRequest, LeaseGrantRequest, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};

use crate::{
    etcd::{Etcd, is_installed},
    processes::{Cluster, put, wait_for},
    workload::{compact, hash_kv, play, revision},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hash_of_a_history_is_the_one_etcd_gives_at_every_revision() {
    if !is_installed() {
        return;
    }
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let (theirs, ours) = (etcd.channel(), cluster.channel(0));
    play(&theirs).await;
    play(&ours).await;
    let last = revision(&ours).await;
    assert_eq!(revision(&theirs).await, last);
    // Nothing compacted; then at a put, at a deletion, in a transaction, and at the end.
    for compacted in [0, 20, 42, 43, 90, last] {
        if compacted > 0 {
            compact(&theirs, compacted).await;
            compact(&ours, compacted).await;
        }
        for at in (0..=last + 1).filter(|at| at % 7 == 0 || (40..46).contains(at) || *at >= last - 1) {
            if at == compacted && at > 0 {
                // 3.4 refuses the compacted revision; newer ones answer what they noted while they compacted.
                continue;
            }
            let (expected, found) = (hash_kv(&theirs, at).await, hash_kv(&ours, at).await);
            assert_eq!(found, expected, "revision {at} after compaction at {compacted}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hash_of_everything_is_the_same_at_all_members_and_changes_with_anything() {
    let cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let first = cluster.channel(0);
    play(&first).await;
    let hash = async |number: usize| {
        let mut maintenance = MaintenanceClient::new(cluster.channel(number));
        let answer = maintenance.hash(HashRequest {}).await.unwrap().into_inner();
        (answer.header.unwrap().revision, answer.hash)
    };
    let agreed = async || {
        wait_for("one hash at all members", || async {
            let all = [hash(0).await, hash(1).await, hash(2).await];
            all.iter().all(|one| *one == all[0]).then_some(all[0])
        })
        .await
    };
    let before = agreed().await;
    // Not a key, and still a part of everything.
    let grant = LeaseGrantRequest { id: 77, ttl: 3600 };
    LeaseClient::new(first.clone()).lease_grant(grant).await.unwrap();
    let with_lease = agreed().await;
    assert!(with_lease.0 == before.0 && with_lease.1 != before.1, "{before:?} {with_lease:?}");
    KvClient::new(first.clone()).put(put(b"one more", b"value")).await.unwrap();
    assert_ne!(agreed().await.1, with_lease.1);
}
