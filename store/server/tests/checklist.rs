//! What an etcd server must get right, line by line, over gRPC. What is pure has its test in `store/core/tests`; what
//! real etcd answers to any sequence is compared in `differential`.
#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use xebec_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    SnapshotRequest, StatusRequest, TxnRequest, TxnResponse, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
    alarm_request::AlarmAction,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
    request_op::Request,
    response_op::Response,
    watch_client::WatchClient,
    watch_request::RequestUnion,
};

mod processes;
use processes::{Cluster, PATIENCE, get, put, wait_for};

async fn server() -> (Cluster, Channel) {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    (cluster, channel)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn mod_revision_is(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    async fn open(channel: &Channel) -> Watching {
        let (requests, rx) = mpsc::channel(16);
        let responses = WatchClient::new(channel.clone()).watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
        Watching { requests, responses }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        timeout(PATIENCE, self.responses.message()).await.unwrap().unwrap().unwrap()
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        self.next().await
    }
}

fn on(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

#[tokio::test]
async fn an_empty_store_is_at_revision_1_and_headers_say_what_etcds_say() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel);
    assert_eq!(kv.range(get(b"a")).await.unwrap().into_inner().header.unwrap().revision, 1);
    assert_eq!(kv.put(put(b"a", b"1")).await.unwrap().into_inner().header.unwrap().revision, 2);
    let missed = DeleteRangeRequest { key: "b".into(), ..Default::default() };
    assert_eq!(kv.delete_range(missed).await.unwrap().into_inner().header.unwrap().revision, 2);
    let nested = TxnRequest { success: vec![op(Request::RequestPut(put(b"c", b"3")))], ..Default::default() };
    let success = vec![
        op(Request::RequestRange(get(b"a"))),
        op(Request::RequestPut(put(b"b", b"2"))),
        op(Request::RequestTxn(nested)),
    ];
    let response = kv.txn(TxnRequest { success, ..Default::default() }).await.unwrap().into_inner();
    let header = response.header.unwrap();
    assert!(header.revision == 3 && header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    let only = |revision| Some(ResponseHeader { revision, ..Default::default() });
    let [first, second, third] = &response.responses[..] else { panic!("{:?}", response.responses) };
    let Some(Response::ResponseRange(range)) = &first.response else { panic!() };
    assert_eq!(range.header, only(2), "operations carry the revision alone");
    let Some(Response::ResponsePut(written)) = &second.response else { panic!() };
    assert_eq!(written.header, only(3));
    let Some(Response::ResponseTxn(TxnResponse { header, .. })) = &third.response else { panic!() };
    assert_eq!(*header, Some(ResponseHeader::default()), "a nested transaction's header is empty");
    let past = RangeRequest { revision: 2, ..get(b"a") };
    assert_eq!(kv.range(past).await.unwrap().into_inner().header.unwrap().revision, 3);
}

#[tokio::test]
async fn faults_have_etcds_codes_and_words() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel);
    let refused = |code, text: &str| (code, format!("etcdserver: {text}"));
    let invalid = |text| refused(Code::InvalidArgument, text);
    assert_eq!(refusal(kv.range(get(b"")).await), invalid("key is not provided"));
    let sorted = RangeRequest { sort_target: 9, ..get(b"a") };
    assert_eq!(refusal(kv.range(sorted).await), invalid("invalid sort option"));
    let kept = PutRequest { ignore_value: true, ..put(b"a", b"v") };
    assert_eq!(refusal(kv.put(kept).await), invalid("value is provided"));
    let kept = PutRequest { ignore_lease: true, lease: 1, ..put(b"a", b"v") };
    assert_eq!(refusal(kv.put(kept).await), invalid("lease is provided"));
    let kept = PutRequest { ignore_lease: true, ..put(b"a", b"v") };
    assert_eq!(refusal(kv.put(kept).await), invalid("key not found"));
    let leased = PutRequest { lease: 5, ignore_value: true, ..put(b"a", b"") };
    assert_eq!(refusal(kv.put(leased).await), refused(Code::NotFound, "requested lease not found"));
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };
    assert_eq!(refusal(kv.txn(txn(vec![RequestOp { request: None }])).await), invalid("key not found"));
    let twice = vec![op(Request::RequestPut(put(b"a", b""))); 2];
    assert_eq!(refusal(kv.txn(txn(twice)).await), invalid("duplicate key given in txn request"));
    let many = vec![RequestOp { request: None }; 129];
    assert_eq!(refusal(kv.txn(txn(many)).await), invalid("too many operations in txn request"));
    let future = RangeRequest { revision: 9, ..get(b"a") };
    let is_future = refused(Code::OutOfRange, "mvcc: required revision is a future revision");
    assert_eq!(refusal(kv.range(future.clone()).await), is_future);
    let reading = vec![op(Request::RequestPut(put(b"a", b""))), op(Request::RequestRange(future))];
    assert_eq!(refusal(kv.txn(txn(reading)).await), is_future, "and the put is not made");
    assert_eq!(kv.range(get(b"a")).await.unwrap().into_inner().count, 0);
    let compact = |revision| CompactionRequest { revision, physical: false };
    assert_eq!(refusal(kv.compact(compact(9)).await), is_future);
    kv.put(put(b"a", b"")).await.unwrap();
    kv.compact(compact(2)).await.unwrap();
    let is_compacted = refused(Code::OutOfRange, "mvcc: required revision has been compacted");
    assert_eq!(refusal(kv.compact(compact(2)).await), is_compacted);
    assert_eq!(refusal(kv.range(RangeRequest { revision: 1, ..get(b"a") }).await), is_compacted);
    assert_eq!(kv.range(RangeRequest { revision: 2, ..get(b"a") }).await.unwrap().into_inner().count, 1);
    let grant = |id, ttl| LeaseGrantRequest { id, ttl };
    assert_eq!(
        refusal(leases.lease_grant(grant(1, 9_000_000_001)).await),
        refused(Code::OutOfRange, "too large lease TTL")
    );
    leases.lease_grant(grant(1, 60)).await.unwrap();
    assert_eq!(
        refusal(leases.lease_grant(grant(1, 60)).await),
        refused(Code::FailedPrecondition, "lease already exists")
    );
    assert_eq!(
        refusal(leases.lease_revoke(LeaseRevokeRequest { id: 2 }).await),
        refused(Code::NotFound, "requested lease not found")
    );
}

#[tokio::test]
async fn missing_leases_are_answered_not_refused_and_a_revocation_takes_one_revision() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    let asked = tokio_stream::iter([LeaseKeepAliveRequest { id: 4 }]);
    let mut answers = leases.lease_keep_alive(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.id, answer.ttl), (4, 0));
    let life = leases.lease_time_to_live(LeaseTimeToLiveRequest { id: 4, keys: true }).await.unwrap().into_inner();
    assert_eq!((life.id, life.ttl, life.granted_ttl), (4, -1, 0));
    let chosen = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 }).await.unwrap().into_inner();
    assert!(chosen.id > 0 && chosen.ttl == 60);
    for key in [b"b", b"a", b"c"] {
        kv.put(PutRequest { lease: chosen.id, ..put(key, b"") }).await.unwrap();
    }
    kv.put(put(b"c", b"")).await.unwrap();
    let mut watching = Watching::open(&channel).await;
    assert!(watching.create(on("a", "z")).await.created);
    let revoked = leases.lease_revoke(LeaseRevokeRequest { id: chosen.id }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 6);
    let seen: Vec<(Bytes, i64)> =
        watching.next().await.events.into_iter().filter_map(|e| e.kv).map(|kv| (kv.key, kv.mod_revision)).collect();
    assert_eq!(seen, [("a".into(), 6), ("b".into(), 6)], "a put without a lease has detached the third");
}

#[tokio::test]
async fn watches_begin_end_and_are_refused_as_etcds() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    kv.put(put(b"a", b"1")).await.unwrap();
    let mut watching = Watching::open(&channel).await;
    // No watch, no progress: the next answer is to the creation.
    watching.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let refused = watching.create(on("b", "a")).await;
    assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    let refused = watching.create(WatchCreateRequest { start_revision: -1, ..on("a", "") }).await;
    assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    let created = watching.create(WatchCreateRequest { watch_id: 7, start_revision: 2, ..on("a", "") }).await;
    assert!(created.created && created.events.is_empty(), "`created` comes before events");
    assert_eq!(watching.next().await.events.len(), 1);
    let refused = watching.create(WatchCreateRequest { watch_id: 7, ..on("a", "") }).await;
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    // An unknown id is passed over in silence, and so is a response whose events were all filtered.
    watching.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 99 })).await;
    let deaf = WatchCreateRequest { watch_id: 8, filters: vec![0], ..on("a", "") };
    assert_eq!(watching.create(deaf).await.watch_id, 8);
    kv.put(put(b"a", b"2")).await.unwrap();
    assert_eq!(watching.next().await.watch_id, 7);
    watching.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.header.unwrap().revision, progress.events.len()), (-1, 3, 0));
    // A watch on the future holds progress back.
    assert!(watching.create(WatchCreateRequest { watch_id: 9, start_revision: 5, ..on("a", "") }).await.created);
    watching.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    watching.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 9 })).await;
    let canceled = watching.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (9, true));
    kv.compact(CompactionRequest { revision: 3, physical: true }).await.unwrap();
    assert!(watching.create(WatchCreateRequest { watch_id: 10, start_revision: 2, ..on("a", "") }).await.created);
    let canceled = watching.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.compact_revision), (10, true, 3));
}

#[tokio::test]
async fn a_kube_apiserver_gets_what_it_asks_for() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    let create = |key: &str, value: &str| TxnRequest {
        compare: vec![mod_revision_is(key, 0)],
        success: vec![op(Request::RequestPut(put(key.as_bytes(), value.as_bytes())))],
        failure: vec![op(Request::RequestRange(get(key.as_bytes())))],
    };
    for number in 0..5 {
        assert!(kv.txn(create(&format!("/registry/pods/{number}"), "x")).await.unwrap().into_inner().succeeded);
    }
    let again = kv.txn(create("/registry/pods/0", "y")).await.unwrap().into_inner();
    let Some(Response::ResponseRange(found)) = &again.responses[0].response else { panic!() };
    assert!(!again.succeeded && found.kvs[0].value.as_ref() == b"x" && found.kvs[0].mod_revision == 2);
    // LIST in pages at one revision, each counting all that is left of the prefix.
    let page = RangeRequest { range_end: "/registry/pods0".into(), limit: 2, ..get(b"/registry/pods/") };
    let first = kv.range(page.clone()).await.unwrap().into_inner();
    assert_eq!((first.kvs.len(), first.more, first.count), (2, true, 5));
    let revision = first.header.unwrap().revision;
    kv.put(put(b"/registry/pods/9", b"late")).await.unwrap();
    let rest = RangeRequest { key: "/registry/pods/1\0".into(), revision, limit: 500, ..page.clone() };
    let rest = kv.range(rest).await.unwrap().into_inner();
    assert_eq!((rest.kvs.len(), rest.more, rest.count), (3, false, 3));
    let counted = RangeRequest { count_only: true, limit: 0, ..page.clone() };
    assert_eq!(kv.range(counted).await.unwrap().into_inner().count, 6);
    let names = RangeRequest { keys_only: true, limit: 1, ..page };
    let names = kv.range(names).await.unwrap().into_inner();
    assert!(names.kvs[0].value.is_empty() && names.kvs[0].mod_revision == 2 && names.count == 6);
    // Its watch begins behind the list, and hears of progress.
    let mut watching = Watching::open(&channel).await;
    let request = WatchCreateRequest {
        start_revision: revision + 1,
        prev_kv: true,
        progress_notify: true,
        ..on("/registry/pods/", "/registry/pods0")
    };
    assert!(watching.create(request).await.created);
    assert_eq!(watching.next().await.events[0].kv.as_ref().unwrap().key.as_ref(), b"/registry/pods/9");
    let delete = TxnRequest {
        compare: vec![mod_revision_is("/registry/pods/0", 2)],
        success: vec![op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: "/registry/pods/0".into(),
            ..Default::default()
        }))],
        failure: vec![op(Request::RequestRange(get(b"/registry/pods/0")))],
    };
    assert!(kv.txn(delete).await.unwrap().into_inner().succeeded);
    let deleted = watching.next().await.events.remove(0);
    assert_eq!((deleted.r#type, deleted.prev_kv.unwrap().value.as_ref()), (1, &b"x"[..]));
    watching.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    assert_eq!(watching.next().await.header.unwrap().revision, 8);
    // The compactor claims its turn by the version of a key.
    let version =
        Compare { target_union: Some(TargetUnion::Version(0)), key: "compact_rev_key".into(), ..Default::default() };
    let claim = TxnRequest {
        compare: vec![version],
        success: vec![op(Request::RequestPut(put(b"compact_rev_key", b"8")))],
        failure: vec![op(Request::RequestRange(get(b"compact_rev_key")))],
    };
    assert!(kv.txn(claim.clone()).await.unwrap().into_inner().succeeded);
    assert!(!kv.txn(claim).await.unwrap().into_inner().succeeded);
}

#[tokio::test]
async fn no_space_refuses_what_grows_and_corrupt_refuses_every_change() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    let maintenance = MaintenanceClient::new(channel);
    for key in [b"a", b"b", b"c"] {
        kv.put(put(key, b"v")).await.unwrap();
    }
    // Another member's alarm, so that nobody here takes it back.
    let alarm = async |action: AlarmAction, alarm: AlarmType| {
        let request = AlarmRequest { action: action.into(), member_id: 4711, alarm: alarm.into() };
        maintenance.clone().alarm(request).await.unwrap().into_inner().alarms.len()
    };
    let txn = |request| TxnRequest { success: vec![op(request)], ..TxnRequest::default() };
    let delete = |key: &'static str| DeleteRangeRequest { key: key.into(), ..Default::default() };
    let no_space = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(alarm(AlarmAction::Activate, AlarmType::Nospace).await, 1);
    assert_eq!(refusal(kv.put(put(b"d", b"v")).await), no_space);
    assert_eq!(refusal(kv.txn(txn(Request::RequestPut(put(b"d", b"v")))).await), no_space);
    assert_eq!(refusal(leases.lease_grant(LeaseGrantRequest { id: 1, ttl: 60 }).await), no_space);
    assert_eq!(kv.delete_range(delete("a")).await.unwrap().into_inner().deleted, 1);
    kv.txn(txn(Request::RequestDeleteRange(delete("b")))).await.unwrap();
    kv.compact(CompactionRequest { revision: 5, physical: false }).await.unwrap();
    assert_eq!(kv.range(get(b"c")).await.unwrap().into_inner().count, 1);
    assert_eq!(alarm(AlarmAction::Deactivate, AlarmType::Nospace).await, 1);
    kv.put(put(b"d", b"v")).await.unwrap();
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    assert_eq!(alarm(AlarmAction::Activate, AlarmType::Corrupt).await, 1);
    assert_eq!(refusal(kv.put(put(b"e", b"v")).await), corrupt);
    assert_eq!(refusal(kv.delete_range(delete("c")).await), corrupt);
    assert_eq!(refusal(kv.compact(CompactionRequest { revision: 6, physical: false }).await), corrupt);
    assert_eq!(refusal(leases.lease_grant(LeaseGrantRequest { id: 1, ttl: 60 }).await), corrupt);
    assert_eq!(alarm(AlarmAction::Deactivate, AlarmType::Corrupt).await, 1);
    kv.delete_range(delete("c")).await.unwrap();
}

#[tokio::test]
async fn the_smallest_ttl_and_the_pace_of_progress_follow_from_the_flags() {
    let flags = ["--heartbeat-interval=200", "--election-timeout=1400", "--watch-progress-notify-interval=200ms"];
    let cluster = Cluster::with_flags(1, &flags);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let granted = LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { id: 0, ttl: 1 }).await.unwrap();
    assert_eq!(granted.into_inner().ttl, 3, "one and a half election timeouts are 2.1 seconds");
    KvClient::new(channel.clone()).put(put(b"a", b"v")).await.unwrap();
    let mut watching = Watching::open(&channel).await;
    let created = watching.create(WatchCreateRequest { progress_notify: true, watch_id: 5, ..on("a", "") }).await;
    assert!(created.created);
    for _ in 0..2 {
        let progress = watching.next().await;
        assert_eq!((progress.watch_id, progress.events.len(), progress.header.unwrap().revision), (5, 0, 2));
    }
}

#[tokio::test]
async fn a_snapshot_ends_with_its_checksum_and_status_tells_everything() {
    let (_cluster, channel) = server().await;
    let mut kv = KvClient::new(channel.clone());
    for number in 0..40u8 {
        kv.put(put(&[b'k', number], &[number; 3_000])).await.unwrap();
    }
    let mut maintenance = MaintenanceClient::new(channel);
    let mut chunks = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let (mut file, mut last, mut left) = (Vec::new(), Bytes::new(), u64::MAX);
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!(chunk.blob.len() <= 32 * 1024 && (chunk.remaining_bytes < left || left == 0));
        left = chunk.remaining_bytes;
        file.extend_from_slice(&last);
        last = chunk.blob;
    }
    assert_eq!((left, last.len(), file.len() % 512), (0, 32, 0));
    assert_eq!(Sha256::digest(&file).as_slice(), last.as_ref());
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let header = status.header.unwrap();
    assert!(status.version.starts_with("3.") && status.storage_version.starts_with("3."), "{status:?}");
    assert_eq!((status.leader, header.revision, status.is_learner), (header.member_id, 41, false));
    assert!(status.db_size > 0 && status.db_size_in_use > 0 && status.errors.is_empty(), "{status:?}");
    assert!(status.raft_term > 0 && status.raft_index >= status.raft_applied_index && status.raft_applied_index > 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_moved_by_whoever_has_it() {
    let cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let id = async |number: usize| {
        let mut maintenance = MaintenanceClient::new(cluster.channel(number));
        maintenance.status(StatusRequest {}).await.unwrap().into_inner().header.unwrap().member_id
    };
    let target_id = id(follower).await;
    let ask = async |number: usize, target_id: u64| {
        MaintenanceClient::new(cluster.channel(number)).move_leader(MoveLeaderRequest { target_id }).await
    };
    let refused = |text: &str| (Code::FailedPrecondition, text.to_owned());
    assert_eq!(refusal(ask(follower, target_id).await), refused("etcdserver: not leader"));
    assert_eq!(refusal(ask(leader, 4711).await), refused("etcdserver: bad leader transferee"));
    // On a busy machine a member may not have answered its leader lately, or another may have been elected.
    wait_for("the follower to lead", || async {
        let leader = cluster.leader().await;
        if leader != follower {
            ask(leader, target_id).await.ok();
        }
        (cluster.leader().await == follower).then_some(())
    })
    .await;
}
