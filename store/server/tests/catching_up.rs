//! Members that lag behind a purged log catch up by snapshot, as processes on loopback.
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use std::{fs, time::Instant};

use processes::{Cluster, PATIENCE, get, put, wait_for};
use tokio::sync::watch;
use xebec_proto::etcdserverpb::{
    HashKvRequest, MemberAddRequest, RangeRequest, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};

/// Bytes of one value: under etcd's limit for a request.
const VALUE_BYTES: usize = 1 << 20;
/// Values that make the log worth shortening, and then some: it is at 48 MB of commands, and 16 MB are kept.
const VALUES: usize = 110;
/// Different keys that are written; the rest are new versions.
const KEYS: usize = 20;

async fn fill(cluster: &Cluster, at: usize, from: usize) {
    let mut kv = KvClient::new(cluster.channel(at));
    for number in from..from + VALUES {
        let key = format!("large/{:03}", number % KEYS);
        let value = vec![(number % 251) as u8; VALUE_BYTES];
        kv.put(put(key.as_bytes(), &value)).await.unwrap();
    }
}

/// Small writes until told to stop: the load. Answers with how many were acknowledged.
fn load(cluster: &Cluster, at: usize) -> (watch::Sender<bool>, tokio::task::JoinHandle<usize>) {
    let channel = cluster.channel(at);
    let (stop, stopped) = watch::channel(false);
    let work = tokio::spawn(async move {
        let mut kv = KvClient::new(channel);
        let mut acknowledged = 0;
        while !*stopped.borrow() {
            let key = format!("load/{acknowledged:06}");
            acknowledged += usize::from(kv.put(put(key.as_bytes(), b"v")).await.is_ok());
        }
        acknowledged
    });
    (stop, work)
}

/// Waits until the member's log no longer has its beginning: a follower that lacks it needs a snapshot.
async fn purged(cluster: &Cluster, number: usize) {
    let log = cluster.data_dir(number).join("member/log");
    wait_for("the log to be shortened", || async {
        let mut segments: Vec<_> = fs::read_dir(&log).unwrap().filter_map(|entry| entry.ok()).collect();
        segments.retain(|entry| entry.file_name().to_string_lossy().ends_with(".seg"));
        let first = segments.iter().map(|entry| entry.file_name()).min()?;
        let first = first.to_string_lossy().trim_end_matches(".seg").to_owned();
        let is_first = first.chars().all(|digit| digit == '0');
        (!is_first && !first.is_empty()).then_some(())
    })
    .await;
}

async fn hash(cluster: &Cluster, at: usize, revision: i64) -> u32 {
    let mut maintenance = MaintenanceClient::new(cluster.channel(at));
    maintenance.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner().hash
}

async fn revision(cluster: &Cluster, at: usize) -> i64 {
    let read = KvClient::new(cluster.channel(at)).range(get(b"large/000")).await.unwrap().into_inner();
    read.header.unwrap().revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_a_purged_log_installs_a_snapshot_under_load_and_through_a_restart() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let leader = cluster.leader().await;
    let (writer, lagging) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(lagging);
    fill(&cluster, leader, 0).await;
    purged(&cluster, leader).await;
    let (stop, work) = load(&cluster, writer);
    cluster.start(lagging);
    let began = Instant::now();
    // Killed while it receives or installs, it begins again.
    let incoming = cluster.data_dir(lagging).join("member/snapshots");
    wait_for("the snapshot to begin", || async {
        let is_there = fs::read_dir(&incoming).is_ok_and(|mut entries| entries.next().is_some());
        let is_through = cluster.log(lagging).contains("received a snapshot");
        (is_there || is_through).then_some(())
    })
    .await;
    cluster.kill(lagging);
    cluster.start(lagging);
    cluster.ready(lagging).await;
    println!("caught up after {:?}, a restart included", began.elapsed());
    assert!(cluster.log(lagging).contains("received a snapshot"), "{}", cluster.log(lagging));
    assert!(began.elapsed() < PATIENCE);
    stop.send(true).unwrap();
    let acknowledged = work.await.unwrap();
    println!("{acknowledged} writes were acknowledged meanwhile");
    assert!(acknowledged > 0);
    let at = revision(&cluster, leader).await;
    assert_eq!(revision(&cluster, lagging).await, at);
    assert_eq!(hash(&cluster, lagging, at).await, hash(&cluster, leader, at).await);
    let all = RangeRequest { range_end: "load0".into(), count_only: true, ..get(b"load/") };
    let found = KvClient::new(cluster.channel(lagging)).range(all).await.unwrap().into_inner();
    assert!(found.count as usize >= acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_catches_up_by_snapshot() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    fill(&cluster, 0, 0).await;
    purged(&cluster, 0).await;
    let second = cluster.add_slot();
    let request = MemberAddRequest { peer_ur_ls: vec![cluster.peer_url(second)], is_learner: false };
    wait_for("the cluster to take a member", || async {
        ClusterClient::new(cluster.channel(0)).member_add(request.clone()).await.ok()
    })
    .await;
    cluster.join(second, &[0, second]);
    cluster.ready(second).await;
    assert!(cluster.log(second).contains("received a snapshot"));
    let at = revision(&cluster, 0).await;
    assert_eq!(hash(&cluster, second, at).await, hash(&cluster, 0, at).await);
}
