//! How members begin, come back, and are kept from coming back: as processes on loopback.
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use std::{fs, time::Instant};

use processes::{Cluster, get, wait_for};
use xebec_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, RangeRequest, cluster_client::ClusterClient, kv_client::KvClient,
};

async fn member_count(cluster: &Cluster, at: usize) -> usize {
    let request = MemberListRequest { linearizable: true };
    let listed = ClusterClient::new(cluster.channel(at)).member_list(request).await.unwrap().into_inner();
    listed.members.iter().filter(|member| !member.name.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_members_may_start_at_different_times() {
    let mut cluster = Cluster::prepared(3, &[]);
    cluster.start(0);
    cluster.start(1);
    let began = Instant::now();
    // Two of three are a majority: after the grace they begin without the third.
    cluster.ready(0).await;
    println!("two of three began after {:?}", began.elapsed());
    cluster.write(1, "before the third", b"v").await;
    cluster.start(2);
    let came = Instant::now();
    cluster.ready(2).await;
    println!("the third was let in after {:?}", came.elapsed());
    assert!(cluster.sees(2, "before the third").await);
    wait_for("all to be published", || async { (member_count(&cluster, 2).await == 3).then_some(()) }).await;
    let mut fresh = Cluster::prepared(3, &[]);
    (0..3).for_each(|number| fresh.start(number));
    let began = Instant::now();
    fresh.ready(0).await;
    println!("three of three began after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_refused_and_never_votes() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    wait_for("all to be published", || async { (member_count(&cluster, 0).await == 3).then_some(()) }).await;
    // Member 1 lags; what is written then is on 0 and 2 only.
    cluster.kill(1);
    cluster.write(0, "acknowledged by 0 and 2", b"v").await;
    cluster.kill(0);
    cluster.kill(2);
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    // The wiped member and the one that lags would be a quorum that has forgotten.
    cluster.start(0);
    cluster.start(1);
    assert!(!cluster.ended(0).await.success());
    assert!(cluster.log(0).contains("has already been bootstrapped"), "{}", cluster.log(0));
    // Not by joining, either.
    let initial = format!("--initial-cluster={}", cluster.initial_cluster(0..3));
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    cluster.start(2);
    cluster.ready(2).await;
    cluster.start_with(0, &[initial, "--initial-cluster-state=existing".to_owned()]);
    assert!(!cluster.ended(0).await.success());
    assert!(cluster.sees(1, "acknowledged by 0 and 2").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_of_the_beginning_do_not_count_later() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    cluster.write(0, "key", b"v").await;
    cluster.kill(0);
    let nonsense = ["--initial-cluster=other=http://127.0.0.1:9", "--initial-cluster-token=other"];
    cluster.start_with(0, &nonsense.map(str::to_owned));
    cluster.ready(0).await;
    assert!(cluster.sees(0, "key").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_fit_the_cluster_is_refused() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    wait_for("the first to be published", || async { (member_count(&cluster, 0).await == 1).then_some(()) }).await;
    let stranger = cluster.add_slot();
    // Nobody has added it.
    cluster.join(stranger, &[0, stranger]);
    assert!(!cluster.ended(stranger).await.success());
    assert!(cluster.log(stranger).contains("member count is unequal"), "{}", cluster.log(stranger));
    let request = MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:9".to_owned()], is_learner: true };
    ClusterClient::new(cluster.channel(0)).member_add(request).await.unwrap();
    cluster.join(stranger, &[0, stranger]);
    assert!(!cluster.ended(stranger).await.success());
    assert!(cluster.log(stranger).contains("PeerURLs: no match found for existing member"));
    let initial = format!("--initial-cluster={}", cluster.initial_cluster([stranger]));
    cluster.start_with(stranger, &[initial, "--discovery-srv=example.com".to_owned()]);
    assert!(!cluster.ended(stranger).await.success());
    assert!(cluster.log(stranger).contains("--discovery-srv is not supported"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_with_different_tokens_refuse_each_other() {
    let mut cluster = Cluster::prepared(3, &[]);
    cluster.start(0);
    cluster.start(1);
    let initial = format!("--initial-cluster={}", cluster.initial_cluster(0..3));
    cluster.start_with(2, &[initial, "--initial-cluster-token=another".to_owned()]);
    cluster.ready(0).await;
    cluster.write(0, "key", b"v").await;
    wait_for("the mismatch to be said", || async { cluster.log(2).contains("cluster ID mismatch").then_some(()) })
        .await;
    let serializable = RangeRequest { serializable: true, ..get(b"key") };
    let read = KvClient::new(cluster.channel(2)).range(serializable).await.unwrap().into_inner();
    assert!(read.kvs.is_empty(), "what one cluster wrote reached the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_survivor_goes_on_alone() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    wait_for("all to be published", || async { (member_count(&cluster, 0).await == 3).then_some(()) }).await;
    for number in 0..20 {
        cluster.write(0, &format!("k{number}"), b"v").await;
    }
    (0..3).for_each(|number| cluster.kill(number));
    cluster.start_with(0, &["--force-new-cluster".to_owned()]);
    cluster.ready(0).await;
    assert!(cluster.sees(0, "k19").await);
    assert_eq!(member_count(&cluster, 0).await, 1);
    cluster.write(0, "alone", b"v").await;
    // One of the others comes back: it is told, and ends; it says the same when it is started again.
    cluster.start(1);
    assert!(!cluster.ended(1).await.success());
    assert!(cluster.log(1).contains("permanently removed"));
    cluster.start(1);
    assert!(!cluster.ended(1).await.success());
    // Without the flag, the survivor stays alone and keeps its data.
    cluster.kill(0);
    cluster.start(0);
    cluster.ready(0).await;
    assert!(cluster.sees(0, "alone").await && cluster.sees(0, "k0").await);
}
