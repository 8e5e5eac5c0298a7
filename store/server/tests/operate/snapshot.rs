//! The `Snapshot` RPC.

use std::{fs, path::Path};

use crate::{
    etcd::{Etcd, etcdctl, is_installed},
    processes::{Cluster, free_ports},
    workload::{assert_same_history, compact, hash_kv, leases, play, revision},
};

/// Restores a snapshot with etcdctl and starts etcd on it.
async fn etcd_from(snapshot: &Path) -> Etcd {
    let dir = tempfile::tempdir().unwrap();
    let ports = free_ports(2);
    let peer = format!("http://127.0.0.1:{}", ports[1]);
    etcdctl(&[
        "snapshot",
        "restore",
        snapshot.to_str().unwrap(),
        &format!("--data-dir={}", Etcd::data_dir(dir.path()).display()),
        "--name=e0",
        &format!("--initial-cluster=e0={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
    ]);
    Etcd::start_on(dir, ports[0], ports[1]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_tools_save_check_and_restore_a_snapshot_and_etcd_serves_the_same_from_it() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let ours = cluster.channel(0);
    play(&ours).await;
    for compacted in [0, 43, 90] {
        if compacted > 0 {
            compact(&ours, compacted).await;
        }
        let snapshot = cluster.dir.path().join(format!("snapshot-{compacted}.db"));
        let endpoint = format!("--endpoints={}", cluster.client_url(0));
        etcdctl(&[&endpoint, "snapshot", "save", snapshot.to_str().unwrap()]);
        let status = etcdctl(&["snapshot", "status", snapshot.to_str().unwrap(), "--write-out=json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["revision"], revision(&ours).await);
        assert_eq!(status["totalSize"], fs::metadata(&snapshot).unwrap().len() - 32);
        let etcd = etcd_from(&snapshot).await;
        assert_same_history(&ours, &etcd.channel()).await;
        assert_eq!(leases(&ours).await.len(), 2);
        assert_eq!(hash_kv(&ours, 0).await, hash_kv(&etcd.channel(), 0).await);
    }
}
