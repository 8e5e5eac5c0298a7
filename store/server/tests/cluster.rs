//! Three members as processes on loopback, through the generated clients.
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use std::time::{Duration, Instant};

use processes::{Cluster, PATIENCE, get, put};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use xebec_proto::etcdserverpb::{
    CompactionRequest, Compare, LeaseGrantRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    cluster_client::ClusterClient, compare::TargetUnion, kv_client::KvClient, lease_client::LeaseClient,
    request_op::Request, watch_client::WatchClient, watch_request::RequestUnion,
};

async fn next(responses: &mut tonic::Streaming<WatchResponse>) -> WatchResponse {
    timeout(PATIENCE, responses.message()).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_serves_any_request() {
    let cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
        let mut kv = KvClient::new(cluster.channel(number));
        kv.put(put(b"key", &[number as u8])).await.unwrap();
        for other in 0..3 {
            let mut kv = KvClient::new(cluster.channel(other));
            let read = kv.range(get(b"key")).await.unwrap().into_inner();
            assert_eq!(read.kvs[0].value.as_ref(), [number as u8], "written at {number}, read at {other}");
        }
    }
    let mut kv = KvClient::new(cluster.channel(1));
    let compare = Compare { key: "key".into(), target_union: Some(TargetUnion::Version(3)), ..Default::default() };
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put(b"key", b"txn"))), op(Request::RequestRange(get(b"key")))],
        failure: vec![],
    };
    let response = kv.txn(txn).await.unwrap().into_inner();
    assert!(response.succeeded);
    assert_eq!(response.header.unwrap().revision, 5);
    assert_eq!(kv.put(put(b"", b"")).await.unwrap_err().message(), "etcdserver: key is not provided");
    let large = kv.put(put(b"large", &vec![0; 1536 * 1024])).await.unwrap_err();
    assert_eq!((large.code(), large.message()), (Code::InvalidArgument, "etcdserver: request is too large"));
    let mut members = ClusterClient::new(cluster.channel(2));
    let listed = members.member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(listed.members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_leases_keep_etcds_rules() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    let mut leases = LeaseClient::new(cluster.channel(0));
    let granted = leases.lease_grant(LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    let (requests, rx) = mpsc::channel(4);
    let mut watch = WatchClient::new(cluster.channel(0));
    let mut responses = watch.watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
    let create = WatchCreateRequest { key: "a".into(), range_end: "b".into(), prev_kv: true, ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    assert!(next(&mut responses).await.created);
    kv.put(PutRequest { lease: granted.id, ..put(b"a1", b"one") }).await.unwrap();
    let seen = next(&mut responses).await;
    assert_eq!((seen.events.len(), seen.events[0].prev_kv.is_none()), (1, true));
    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
    requests.send(WatchRequest { request_union: Some(progress) }).await.unwrap();
    let progress = next(&mut responses).await;
    assert_eq!((progress.watch_id, progress.events.len(), progress.header.unwrap().revision), (-1, 0, 2));
    // The lease expires and takes its key along.
    let expired = next(&mut responses).await;
    assert_eq!(expired.events[0].r#type, 1);
    assert_eq!(expired.events[0].prev_kv.as_ref().unwrap().value.as_ref(), b"one");
    let life = LeaseTimeToLiveRequest { id: granted.id, keys: false };
    assert_eq!(leases.lease_time_to_live(life).await.unwrap().into_inner().ttl, -1);
    for _ in 0..4 {
        kv.put(put(b"a2", b"x")).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 6, physical: true }).await.unwrap();
    let old = RangeRequest { revision: 4, ..get(b"a2") };
    assert_eq!(kv.range(old).await.unwrap_err().code(), Code::OutOfRange);
    let (requests, rx) = mpsc::channel(4);
    let mut responses = watch.watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
    let create = WatchCreateRequest { key: "zz".into(), start_revision: 100, watch_id: 7, ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create.clone())) }).await.unwrap();
    assert_eq!(next(&mut responses).await.watch_id, 7);
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    let refused = next(&mut responses).await;
    assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let leader = cluster.leader().await;
    let survivor = (leader + 1) % 3;
    let mut kv = KvClient::new(cluster.channel(survivor));
    let mut acknowledged = Vec::new();
    let (mut last_success, mut gap) = (Instant::now(), Duration::ZERO);
    for number in 0..600u32 {
        if number == 200 {
            cluster.kill(leader);
        }
        let key = format!("k/{number:05}");
        if kv.put(put(key.as_bytes(), b"v")).await.is_ok() {
            acknowledged.push(key);
            gap = gap.max(last_success.elapsed());
            last_success = Instant::now();
        }
    }
    println!("longest gap between two acknowledged writes: {gap:?}");
    assert!(gap < Duration::from_secs(2), "{gap:?}");
    assert!(acknowledged.len() >= 590, "{}", acknowledged.len());
    cluster.start(leader);
    for number in 0..3 {
        cluster.ready(number).await;
        let all = RangeRequest { range_end: "k0".into(), ..get(b"k/") };
        let mut kv = KvClient::new(cluster.channel(number));
        let found = kv.range(all).await.unwrap().into_inner();
        let keys: Vec<&[u8]> = found.kvs.iter().map(|kv| kv.key.as_ref()).collect();
        for key in &acknowledged {
            assert!(keys.contains(&key.as_bytes()), "{key} is lost at member {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_back_from_disk_after_all_were_killed() {
    let mut cluster = Cluster::new(3);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    let mut revision = 0;
    for number in 0..100 {
        let response = kv.put(put(format!("k{number}").as_bytes(), b"v")).await.unwrap().into_inner();
        revision = response.header.unwrap().revision;
    }
    (0..3).for_each(|number| cluster.kill(number));
    (0..3).for_each(|number| cluster.start(number));
    for number in 0..3 {
        cluster.ready(number).await;
        let mut kv = KvClient::new(cluster.channel(number));
        let read = kv.range(get(b"k99")).await.unwrap().into_inner();
        assert_eq!((read.kvs.len(), read.header.unwrap().revision), (1, revision));
    }
}
