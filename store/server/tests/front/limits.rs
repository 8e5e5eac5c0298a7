//! What a client may ask for, and members without a leader.

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use xebec_proto::etcdserverpb::{
    AuthRoleAddRequest, LeaseKeepAliveRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
    auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient, watch_request::RequestUnion,
};

use crate::processes::{Cluster, PATIENCE, get, put, wait_for};

fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_a_leader_is_sent_away_by_a_member_that_has_none() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    // The leader stays, without a majority: it must not count as one.
    let leader = cluster.leader().await;
    let (requests, rx) = mpsc::channel(2);
    let create = WatchCreateRequest { key: "key".into(), ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    let mut watch = WatchClient::new(cluster.channel(leader));
    let mut watched = watch.watch(with_leader(ReceiverStream::new(rx))).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().unwrap().created);
    let (keep_alives, rx) = mpsc::channel(2);
    keep_alives.send(LeaseKeepAliveRequest { id: 7 }).await.unwrap();
    let mut leases = LeaseClient::new(cluster.channel(leader));
    let mut kept = leases.lease_keep_alive(with_leader(ReceiverStream::new(rx))).await.unwrap().into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 0);
    let mut kv = KvClient::new(cluster.channel(leader));
    let serializable = || with_leader(RangeRequest { serializable: true, ..get(b"key") });
    kv.range(serializable()).await.unwrap();
    for number in (0..3).filter(|number| *number != leader) {
        cluster.kill(number);
    }
    for ended in [watched.message().await.unwrap_err(), kept.message().await.unwrap_err()] {
        assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
    }
    let refused = kv.range(serializable()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    // Who does not care is served.
    kv.range(RangeRequest { serializable: true, ..get(b"key") }).await.unwrap();
    // With its followers back there is a leader again.
    for number in (0..3).filter(|number| *number != leader) {
        cluster.start(number);
    }
    let kv = &kv;
    let again = wait_for("a leader", || async { kv.clone().range(serializable()).await.ok() });
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_has_lost_its_leader_says_so_while_it_cannot_be_elected() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let leader = cluster.leader().await;
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let kv = KvClient::new(cluster.channel(follower));
    let serializable = || with_leader(RangeRequest { serializable: true, ..get(b"key") });
    kv.clone().range(serializable()).await.unwrap();
    cluster.kill(other);
    cluster.kill(leader);
    let refused =
        wait_for("the follower to miss its leader", || async { kv.clone().range(serializable()).await.err() });
    let refused = refused.await;
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    let mut maintenance = MaintenanceClient::new(cluster.channel(follower));
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
    kv.clone().range(RangeRequest { serializable: true, ..get(b"key") }).await.unwrap();
    cluster.start(other);
    wait_for("a leader", || async { kv.clone().range(serializable()).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_a_largest_size() {
    let cluster = Cluster::with_flags(1, &["--max-request-bytes=1000", "--max-concurrent-streams=7"]);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    kv.put(put(b"key", &[0; 900])).await.unwrap();
    let large = kv.put(put(b"key", &[0; 1_000])).await.unwrap_err();
    assert_eq!((large.code(), large.message()), (Code::InvalidArgument, "etcdserver: request is too large"));
    // What is far too large is not even read; the code and the words are grpc-go's.
    let max = 1_000 + 512 * 1024;
    let request = put(b"key", &vec![0; max]);
    let length = request.encoded_len();
    let huge = kv.put(request).await.unwrap_err();
    let words = format!("grpc: received message larger than max ({length} vs. {max})");
    assert_eq!((huge.code(), huge.message()), (Code::ResourceExhausted, words.as_str()));
    // The same goes for services whose requests are small, and the connection goes on.
    let name = "x".repeat(max);
    let mut auth = AuthClient::new(cluster.channel(0));
    let huge = auth.role_add(AuthRoleAddRequest { name }).await.unwrap_err();
    assert_eq!(huge.code(), Code::ResourceExhausted);
    kv.put(put(b"key", b"small")).await.unwrap();
}
