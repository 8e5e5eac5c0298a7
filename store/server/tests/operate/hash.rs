//! `HashKV` is etcd's, bit for bit.

use crate::{
    etcd::{Etcd, is_installed},
    processes::Cluster,
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
