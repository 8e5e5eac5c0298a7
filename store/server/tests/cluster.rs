//! Three members as processes on loopback, through the generated clients.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use xebec_proto::etcdserverpb::{
    CompactionRequest, Compare, LeaseGrantRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest,
    RequestOp, StatusRequest, TxnRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    cluster_client::ClusterClient, compare::TargetUnion, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, request_op::Request, watch_client::WatchClient, watch_request::RequestUnion,
};

/// Longest wait for anything, generous because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    dir: TempDir,
    clients: Vec<u16>,
    peers: Vec<u16>,
    members: Vec<Option<Child>>,
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Set for a process that is to be a member instead of running tests; holds its flags, one a line.
const MEMBER_FLAGS: &str = "XEBEC_TEST_MEMBER_FLAGS";

#[derive(clap::Parser)]
struct Member {
    #[command(flatten)]
    flags: xebec_store::Flags,
}

/// Not a test of its own: the body of the processes that the tests start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_process() {
    let Ok(flags) = std::env::var(MEMBER_FLAGS) else {
        return;
    };
    let member: Member = clap::Parser::parse_from(std::iter::once("store").chain(flags.lines()));
    if let Err(error) = xebec_store::run(member.flags, CancellationToken::new()).await {
        eprintln!("member: {error}");
    }
}

impl Cluster {
    fn new(size: usize) -> Self {
        let ports = free_ports(size * 2);
        let mut cluster = Self {
            dir: TempDir::new().unwrap(),
            clients: ports[..size].to_vec(),
            peers: ports[size..].to_vec(),
            members: (0..size).map(|_| None).collect(),
        };
        (0..size).for_each(|number| cluster.start(number));
        cluster
    }

    fn start(&mut self, number: usize) {
        let initial: Vec<String> =
            self.peers.iter().enumerate().map(|(n, port)| format!("m{n}=http://127.0.0.1:{port}")).collect();
        let client = format!("http://127.0.0.1:{}", self.clients[number]);
        let peer = format!("http://127.0.0.1:{}", self.peers[number]);
        let data_dir = self.dir.path().join(format!("m{number}"));
        let flags = [
            format!("--name=m{number}"),
            format!("--data-dir={}", data_dir.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", initial.join(",")),
        ];
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "member_process", "--nocapture"])
            .env(MEMBER_FLAGS, flags.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.members[number] = Some(child);
    }

    fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn channel(&self, number: usize) -> Channel {
        let url = format!("http://127.0.0.1:{}", self.clients[number]);
        Channel::from_shared(url).unwrap().connect_lazy()
    }

    /// Waits until that member serves linearizable reads.
    async fn ready(&self, number: usize) {
        let mut kv = KvClient::new(self.channel(number));
        let deadline = Instant::now() + PATIENCE;
        while let Err(status) = kv.range(get(b"nothing")).await {
            assert!(Instant::now() < deadline, "member {number}: {status}");
            tokio::task::yield_now().await;
        }
    }

    async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for number in 0..self.members.len() {
                let mut maintenance = MaintenanceClient::new(self.channel(number));
                if self.members[number].is_some()
                    && let Ok(status) = maintenance.status(StatusRequest {}).await
                    && status.get_ref().leader == status.get_ref().header.as_ref().unwrap().member_id
                {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|number| self.kill(number));
    }
}

fn get(key: &[u8]) -> RangeRequest {
    RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() }
}

fn put(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value), ..Default::default() }
}

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
