//! Members come and go, as processes on loopback.
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use std::time::{Duration, Instant};

use processes::{Cluster, PATIENCE, get, put, wait_for};
use tonic::{Code, Status};
use xebec_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, RangeRequest, StatusRequest, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};

async fn list(cluster: &Cluster, at: usize) -> Vec<Member> {
    let mut client = ClusterClient::new(cluster.channel(at));
    let listed = client.member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(listed.header.unwrap().revision, 0);
    listed.members
}

async fn id_of(cluster: &Cluster, at: usize, number: usize) -> u64 {
    let url = cluster.peer_url(number);
    list(cluster, at).await.iter().find(|member| member.peer_ur_ls == [url.clone()]).unwrap().id
}

/// Waits until every member has published itself, as a reconfiguration wants.
async fn all_started(cluster: &Cluster, at: usize, count: usize) {
    wait_for("all members to be started", || async {
        let members = list(cluster, at).await;
        (members.len() == count && members.iter().all(|member| !member.name.is_empty())).then_some(())
    })
    .await;
}

async fn add(cluster: &Cluster, at: usize, number: usize, is_learner: bool) -> Result<Member, Status> {
    let request = MemberAddRequest { peer_ur_ls: vec![cluster.peer_url(number)], is_learner };
    let added = ClusterClient::new(cluster.channel(at)).member_add(request).await?.into_inner();
    assert!(added.members.iter().any(|member| Some(member) == added.member.as_ref()));
    Ok(added.member.unwrap())
}

async fn remove(cluster: &Cluster, at: usize, id: u64) -> Result<Vec<Member>, Status> {
    let mut client = ClusterClient::new(cluster.channel(at));
    Ok(client.member_remove(MemberRemoveRequest { id }).await?.into_inner().members)
}

async fn promote(cluster: &Cluster, at: usize, id: u64) -> Result<Vec<Member>, Status> {
    let mut client = ClusterClient::new(cluster.channel(at));
    Ok(client.member_promote(MemberPromoteRequest { id }).await?.into_inner().members)
}

async fn update(cluster: &Cluster, at: usize, id: u64, url: &str) -> Result<Vec<Member>, Status> {
    let mut client = ClusterClient::new(cluster.channel(at));
    Ok(client.member_update(MemberUpdateRequest { id, peer_ur_ls: vec![url.to_owned()] }).await?.into_inner().members)
}

fn refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_grows_to_three_and_shrinks_again() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    all_started(&cluster, 0, 1).await;
    cluster.write(0, "first", b"v").await;
    let second = cluster.add_slot();
    let added = add(&cluster, 0, second, false).await.unwrap();
    assert_eq!((added.name.as_str(), added.is_learner), ("", false));
    // The quorum is what it was until the new member runs.
    cluster.write(0, "while the second is missing", b"v").await;
    let listed = list(&cluster, 0).await;
    assert_eq!(listed.iter().filter(|member| member.name.is_empty()).count(), 1);
    let third = cluster.add_slot();
    refused(
        &add(&cluster, 0, third, false).await.unwrap_err(),
        Code::FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members",
    );
    cluster.join(second, &[0, second]);
    cluster.ready(second).await;
    all_started(&cluster, second, 2).await;
    // The second votes by and by; then the third is welcome, asked of the second.
    wait_for("the second member to be healthy", || async { add(&cluster, second, third, false).await.ok() }).await;
    cluster.join(third, &[0, second, third]);
    cluster.ready(third).await;
    all_started(&cluster, third, 3).await;
    for number in [0, second, third] {
        assert!(cluster.sees(number, "first").await, "member {number}");
    }
    wait_for("three voters", || async {
        let log = cluster.log(0) + &cluster.log(second);
        (log.matches("a new member votes from now on").count() == 2).then_some(())
    })
    .await;
    cluster.kill(0);
    cluster.write(third, "two of three are enough", b"v").await;
    let first = id_of(&cluster, third, 0).await;
    let left = remove(&cluster, third, first).await.unwrap();
    assert_eq!(left.len(), 2);
    refused(&remove(&cluster, second, first).await.unwrap_err(), Code::NotFound, "etcdserver: member not found");
    // What was removed cannot come back.
    cluster.start_with(0, &[]);
    assert!(!cluster.ended(0).await.success());
    assert!(cluster.log(0).contains("the member has been permanently removed from the cluster"));
    cluster.start_with(0, &[]);
    assert!(!cluster.ended(0).await.success());
    cluster.write(second, "the two go on", b"v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_follow_and_are_promoted_when_in_sync() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    all_started(&cluster, 0, 1).await;
    for number in 0..200 {
        cluster.write(0, &format!("k{number:03}"), b"v").await;
    }
    let learner = cluster.add_slot();
    let added = add(&cluster, 0, learner, true).await.unwrap();
    assert!(added.is_learner);
    let in_sync = "etcdserver: can only promote a learner member which is in sync with leader";
    refused(&promote(&cluster, 0, added.id).await.unwrap_err(), Code::FailedPrecondition, in_sync);
    let another = cluster.add_slot();
    let too_many = "etcdserver: too many learner members in cluster";
    refused(&add(&cluster, 0, another, true).await.unwrap_err(), Code::FailedPrecondition, too_many);
    cluster.join(learner, &[0, learner]);
    all_started(&cluster, 0, 2).await;
    let mut kv = KvClient::new(cluster.channel(learner));
    let unsupported = "etcdserver: rpc not supported for learner";
    wait_for("the learner to hold the last key", || async {
        let serializable = RangeRequest { serializable: true, ..get(b"k199") };
        let read = KvClient::new(cluster.channel(learner)).range(serializable).await.ok()?.into_inner();
        (read.kvs.len() == 1).then_some(())
    })
    .await;
    refused(&kv.range(get(b"k199")).await.unwrap_err(), Code::FailedPrecondition, unsupported);
    refused(&kv.put(put(b"x", b"y")).await.unwrap_err(), Code::FailedPrecondition, unsupported);
    let mut members = ClusterClient::new(cluster.channel(learner));
    let listed = members.member_list(MemberListRequest { linearizable: false }).await;
    refused(&listed.unwrap_err(), Code::FailedPrecondition, unsupported);
    let mut maintenance = MaintenanceClient::new(cluster.channel(learner));
    assert!(maintenance.status(StatusRequest {}).await.unwrap().into_inner().is_learner);
    let transfer = MoveLeaderRequest { target_id: added.id };
    let refusal = MaintenanceClient::new(cluster.channel(0)).move_leader(transfer).await.unwrap_err();
    refused(&refusal, Code::FailedPrecondition, "etcdserver: bad leader transferee");
    wait_for("the learner to be promoted", || async { promote(&cluster, 0, added.id).await.ok() }).await;
    let not_learner = "etcdserver: can only promote a learner member";
    refused(&promote(&cluster, 0, added.id).await.unwrap_err(), Code::FailedPrecondition, not_learner);
    cluster.ready(learner).await;
    cluster.write(learner, "through the promoted one", b"v").await;
    // Both vote now: one alone is no quorum.
    assert_eq!(list(&cluster, learner).await.iter().filter(|member| member.is_learner).count(), 0);
    refused(&promote(&cluster, 0, 4711).await.unwrap_err(), Code::NotFound, "etcdserver: member not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_leader_hands_over_and_ends() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    all_started(&cluster, 0, 3).await;
    let leader = cluster.leader().await;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = id_of(&cluster, other, leader).await;
    cluster.write(other, "before", b"v").await;
    // Asked of the leader itself, which answers before it ends.
    let left = remove(&cluster, leader, id).await.unwrap();
    assert!(left.len() == 2 && left.iter().all(|member| member.id != id), "{left:?}");
    assert!(!cluster.ended(leader).await.success());
    assert!(cluster.log(leader).contains("the member has been permanently removed from the cluster"));
    for number in [other, third] {
        assert!(cluster.sees(number, "before").await);
        cluster.write(number, "after", b"v").await;
        assert_eq!(list(&cluster, number).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_asked_for_its_own_removal_answers_before_it_ends() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    all_started(&cluster, 0, 3).await;
    let follower = (cluster.leader().await + 1) % 3;
    let id = id_of(&cluster, follower, follower).await;
    let left = remove(&cluster, follower, id).await.unwrap();
    assert!(left.len() == 2 && left.iter().all(|member| member.id != id), "{left:?}");
    assert!(!cluster.ended(follower).await.success());
    assert!(cluster.log(follower).contains("the member has been permanently removed from the cluster"));
    let other = (follower + 1) % 3;
    cluster.write(other, "after", b"v").await;
    assert_eq!(list(&cluster, other).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_refused_by_etcds_rules() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    all_started(&cluster, 0, 3).await;
    let follower = (cluster.leader().await + 1) % 3;
    let slot = cluster.add_slot();
    let bad = MemberAddRequest { peer_ur_ls: vec!["127.0.0.1:1".to_owned()], is_learner: false };
    let refusal = ClusterClient::new(cluster.channel(follower)).member_add(bad).await.unwrap_err();
    refused(&refusal, Code::InvalidArgument, "etcdserver: given member URLs are invalid");
    let taken = MemberAddRequest { peer_ur_ls: vec![cluster.peer_url(1)], is_learner: true };
    let refusal = ClusterClient::new(cluster.channel(follower)).member_add(taken).await.unwrap_err();
    refused(&refusal, Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
    let (first, second) = (id_of(&cluster, follower, 0).await, cluster.peer_url(1));
    let refusal = update(&cluster, follower, first, &second).await.unwrap_err();
    refused(&refusal, Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
    let refusal = update(&cluster, follower, 99, "http://127.0.0.1:1").await.unwrap_err();
    refused(&refusal, Code::NotFound, "etcdserver: member not found");
    // With one of three down, nobody that is up may leave and nobody may come.
    let down = (0..3).find(|number| *number != follower && *number != 0).unwrap();
    let up = (0..3).find(|number| *number != down && *number != follower).unwrap();
    cluster.kill(down);
    cluster.leader().await;
    cluster.ready(follower).await;
    let id = id_of(&cluster, follower, up).await;
    wait_for("the dead member to be noticed", || async {
        match remove(&cluster, follower, id).await {
            Ok(_) => panic!("a member that the quorum needs was removed"),
            Err(refusal) => (refusal.message() == "etcdserver: unhealthy cluster").then_some(()),
        }
    })
    .await;
    refused(
        &add(&cluster, follower, slot, false).await.unwrap_err(),
        Code::Unavailable,
        "etcdserver: unhealthy cluster",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_follow_an_updated_peer_url() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    all_started(&cluster, 0, 3).await;
    let moved = (cluster.leader().await + 1) % 3;
    let witness = (moved + 1) % 3;
    let id = id_of(&cluster, witness, moved).await;
    cluster.kill(moved);
    cluster.peers[moved] = processes::free_ports(1)[0];
    let url = cluster.peer_url(moved);
    let updated = update(&cluster, witness, id, &url).await.unwrap();
    assert!(updated.iter().any(|member| member.id == id && member.peer_ur_ls == [url.clone()]));
    // The flags of the beginning do not count any more: the member finds its cluster by what it has on disk.
    cluster.start_with(moved, &["--initial-cluster=nonsense=http://127.0.0.1:1".to_owned()]);
    cluster.write(witness, "after the move", b"v").await;
    cluster.ready(moved).await;
    assert!(cluster.sees(moved, "after the move").await);
    // It counts: without a third member the two are a quorum.
    cluster.kill((moved + 2) % 3);
    cluster.write(moved, "two are a quorum", b"v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_under_writes_without_loss() {
    let cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let writer = (cluster.leader().await + 1) % 3;
    let channel = cluster.channel(writer);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writes = tokio::spawn(async move {
        let mut kv = KvClient::new(channel);
        let (mut acknowledged, mut failed) = (Vec::new(), 0);
        let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
        for number in 0.. {
            if *stopped.borrow() {
                break;
            }
            let key = format!("w/{number:06}");
            match kv.put(put(key.as_bytes(), b"v")).await {
                Ok(_) => acknowledged.push(key),
                Err(_) => failed += 1,
            }
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
        (acknowledged, failed, gap)
    });
    let mut moves = 0;
    for _ in 0..6 {
        let leader = cluster.leader().await;
        let target = (leader + 1) % 3;
        let target_id = id_of(&cluster, target, target).await;
        let mut follower = MaintenanceClient::new(cluster.channel(target));
        let refusal = follower.move_leader(MoveLeaderRequest { target_id }).await.unwrap_err();
        refused(&refusal, Code::FailedPrecondition, "etcdserver: not leader");
        let mut maintenance = MaintenanceClient::new(cluster.channel(leader));
        let unknown = maintenance.move_leader(MoveLeaderRequest { target_id: 4711 }).await.unwrap_err();
        refused(&unknown, Code::FailedPrecondition, "etcdserver: bad leader transferee");
        if maintenance.move_leader(MoveLeaderRequest { target_id }).await.is_ok() {
            moves += 1;
            let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
            assert_eq!(status.leader, target_id);
        }
    }
    stop.send(true).unwrap();
    let (acknowledged, failed, gap) = writes.await.unwrap();
    println!("{moves} of 6 moves, {} writes acknowledged, {failed} failed, longest {gap:?}", acknowledged.len());
    assert!(moves >= 5);
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    let all = RangeRequest { range_end: "w0".into(), keys_only: true, ..get(b"w/") };
    for number in 0..3 {
        let found = KvClient::new(cluster.channel(number)).range(all.clone()).await.unwrap().into_inner();
        let keys: std::collections::HashSet<&[u8]> = found.kvs.iter().map(|kv| kv.key.as_ref()).collect();
        let lost = acknowledged.iter().filter(|key| !keys.contains(key.as_bytes())).count();
        assert_eq!(lost, 0, "at member {number}");
    }
    assert!(PATIENCE > gap);
}
