//! Scenes that no random sequence reaches: a store that is new, limits of size, leases that run out.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use xebec_proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, WatchResponse, kv_client::KvClient, lease_client::LeaseClient,
    request_op::Request, watch_client::WatchClient, watch_request::RequestUnion,
};

use crate::Pair;
use crate::server::Server;

/// The largest request (etcd `--max-request-bytes`).
const REQUEST_BYTES_MAX: usize = 1536 * 1024;

fn kv(server: &Server) -> KvClient<tonic::transport::Channel> {
    KvClient::new(server.channels[0].clone())
}

fn put(key: &str, value_bytes: usize) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_bytes].into(), ..Default::default() }
}

fn outcome<T>(result: &Result<T, tonic::Status>) -> (Code, String) {
    result.as_ref().map_or_else(|status| (status.code(), status.message().to_owned()), |_| (Code::Ok, String::new()))
}

/// A watch on everything: its responses from `created` on.
async fn watch(server: &Server, request: WatchCreateRequest) -> Streaming<WatchResponse> {
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    tx.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }).await.unwrap();
    let mut client = WatchClient::new(server.channels[0].clone()).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
    // The request side stays open for as long as the test runs.
    tokio::spawn(async move { tx.closed().await });
    assert!(responses.message().await.unwrap().unwrap().created);
    responses
}

/// A store that was never compacted has its compacted revision below 0.
async fn a_new_store(server: &Server) -> Vec<(Code, String)> {
    let mut kv = kv(server);
    let range = |revision| RangeRequest { key: "a".into(), revision, ..Default::default() };
    let mut outcomes = Vec::new();
    for revision in [-1, -2] {
        let op = RequestOp { request: Some(Request::RequestRange(range(revision))) };
        outcomes.push(outcome(&kv.txn(TxnRequest { success: vec![op], ..Default::default() }).await));
        outcomes.push(outcome(&kv.range(range(revision)).await));
    }
    for revision in [-1, 2, 0, 0, 1, 1, 2] {
        outcomes.push(outcome(&kv.compact(CompactionRequest { revision, physical: false }).await));
    }
    outcomes
}

/// What is around a request counts, and validation comes before size.
async fn requests_around_the_limit(server: &Server) -> Vec<(Code, String)> {
    let mut kv = kv(server);
    let mut outcomes = Vec::new();
    for below in [1_000, 24, 40, 0] {
        outcomes.push(outcome(&kv.put(put("large", REQUEST_BYTES_MAX - below)).await));
    }
    outcomes.push(outcome(&kv.put(put("", REQUEST_BYTES_MAX)).await));
    let op = |size| RequestOp { request: Some(Request::RequestPut(put("large", size))) };
    let txn = |success| TxnRequest { success, ..Default::default() };
    outcomes.push(outcome(&kv.txn(txn(vec![op(REQUEST_BYTES_MAX)])).await));
    outcomes.push(outcome(&kv.txn(txn(vec![op(REQUEST_BYTES_MAX), op(1)])).await));
    outcomes
}

/// A revision that is too large for one response comes in parts to whom takes parts, whole to others.
async fn large_revisions(server: &Server) -> Vec<(usize, bool)> {
    let request = |fragment| WatchCreateRequest {
        key: "part".into(),
        range_end: "parts".into(),
        prev_kv: true,
        fragment,
        ..Default::default()
    };
    let mut in_parts = watch(server, request(true)).await;
    let mut whole = watch(server, request(false)).await;
    let mut kv = kv(server);
    let sizes = [1, 500_000, 500_000, 400_000, 100];
    let op = |(number, size): (usize, &usize)| RequestOp {
        request: Some(Request::RequestPut(put(&format!("part{number}"), *size))),
    };
    let txn = TxnRequest { success: sizes.iter().enumerate().map(op).collect(), ..Default::default() };
    let mut found = Vec::new();
    for _ in 0..2 {
        kv.txn(txn.clone()).await.unwrap();
        let mut left = sizes.len();
        while left > 0 {
            let part = in_parts.message().await.unwrap().unwrap();
            left -= part.events.len();
            found.push((part.events.len(), part.fragment));
        }
        let response = whole.message().await.unwrap().unwrap();
        found.push((response.events.len(), response.fragment));
    }
    found
}

/// A lease that runs out takes its keys along, all at one revision and in order.
async fn a_lease_that_runs_out(server: &Server) -> Vec<String> {
    let mut leases = LeaseClient::new(server.channels[0].clone());
    let granted = leases.lease_grant(LeaseGrantRequest { id: 77, ttl: 1 }).await.unwrap().into_inner();
    let mut found = vec![format!("granted {}", granted.ttl)];
    let request = WatchCreateRequest { key: "on".into(), range_end: "oz".into(), prev_kv: true, ..Default::default() };
    let mut responses = watch(server, request).await;
    for key in ["on/b", "on/a", "on/c"] {
        kv(server).put(PutRequest { lease: 77, ..put(key, 1) }).await.unwrap();
    }
    kv(server).put(put("on/c", 2)).await.unwrap();
    let mut deletions = 0;
    while deletions < 2 {
        let response = responses.message().await.unwrap().unwrap();
        deletions += response.events.iter().filter(|event| event.r#type == 1).count();
        found.push(format!("{:?} {:?}", response.header.unwrap().revision, response.events));
    }
    let life = LeaseTimeToLiveRequest { id: 77, keys: true };
    let life = leases.lease_time_to_live(life).await.unwrap().into_inner();
    found.push(format!("{} {} {:?}", life.ttl, life.granted_ttl, life.keys));
    let late = kv(server).put(PutRequest { lease: 77, ..put("late", 1) }).await;
    found.push(format!("{:?}", outcome(&late)));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_stores_large_requests_and_leases_that_run_out_are_as_etcds() {
    let Pair { etcd, xebec, .. } = Pair::start(&[]).await;
    let (theirs, ours) = tokio::join!(a_new_store(&etcd), a_new_store(&xebec));
    assert_eq!(ours, theirs, "a new store");
    let (theirs, ours) = tokio::join!(a_lease_that_runs_out(&etcd), a_lease_that_runs_out(&xebec));
    assert_eq!(ours, theirs, "a lease that runs out");
    let (theirs, ours) = tokio::join!(requests_around_the_limit(&etcd), requests_around_the_limit(&xebec));
    assert_eq!(ours, theirs, "requests around the limit");
    let (theirs, ours) = tokio::join!(large_revisions(&etcd), large_revisions(&xebec));
    assert_eq!(ours, theirs, "large revisions: events of each response, and whether more follow");
}
