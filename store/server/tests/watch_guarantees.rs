//! What a watch promises, under load and over gRPC: ordered, unique, whole revisions, none left out, prev_kv right,
//! progress true, resumable anywhere; and a client that does not read holds up nobody.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use xebec_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse, kv_client::KvClient, request_op::Request, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use xebec_proto::mvccpb::{Event, event::EventType};

mod processes;
use processes::{Cluster, PATIENCE, put};

/// Writers that write at the same time.
const WRITERS: usize = 4;
/// Writes of each.
const WRITES: usize = 150;
/// Watches at the same time, over several streams.
const WATCHES: usize = 200;
const WATCHES_PER_STREAM: usize = 25;
/// Keys of all writers.
const KEYS: usize = 7;

/// What a watch has seen.
#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    /// The last revision of the last response that had events.
    through: i64,
    /// The highest revision that progress has named.
    progress: i64,
}

fn modified(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

impl Seen {
    fn take(&mut self, response: WatchResponse) {
        let header = response.header.as_ref().unwrap().revision;
        assert!(!response.canceled, "{response:?}");
        if response.events.is_empty() {
            self.progress = self.progress.max(header);
            return;
        }
        let first = modified(&response.events[0]);
        assert!(first > self.through, "revision {first} again, or torn: {} was complete", self.through);
        assert!(first > self.progress, "revision {first} behind progress {}", self.progress);
        assert!(header >= modified(response.events.last().unwrap()));
        self.through = modified(response.events.last().unwrap());
        self.events.extend(response.events);
    }
}

struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

async fn watch(channel: Channel, creates: Vec<WatchCreateRequest>) -> Watching {
    let (requests, rx) = mpsc::channel(creates.len() + 4);
    for create in creates {
        requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    }
    let responses = WatchClient::new(channel).watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
    Watching { requests, responses }
}

impl Watching {
    async fn next(&mut self) -> WatchResponse {
        timeout(PATIENCE, self.responses.message()).await.unwrap().unwrap().unwrap()
    }

    async fn ask_for_progress(&self) {
        let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    /// Reads until progress says that every watch has got as far as `revision`: what each has seen.
    async fn read_through(mut self, watches: usize, revision: i64) -> Vec<Seen> {
        let mut seen: Vec<Seen> = (0..watches).map(|_| Seen::default()).collect();
        self.ask_for_progress().await;
        loop {
            let response = self.next().await;
            if response.created {
                continue;
            }
            if response.watch_id < 0 {
                let reached = response.header.as_ref().unwrap().revision;
                seen.iter_mut().for_each(|seen| seen.progress = seen.progress.max(reached));
                if reached >= revision {
                    return seen;
                }
                self.ask_for_progress().await;
                continue;
            }
            seen[usize::try_from(response.watch_id).unwrap()].take(response);
        }
    }
}

fn everything(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k{}", number % KEYS))
}

/// Puts, deletions, and transactions that change several keys at one revision.
async fn write(channel: Channel, writer: usize) {
    let mut kv = KvClient::new(channel);
    for number in 0..WRITES {
        let value = format!("{writer}/{number}");
        let seed = writer * 31 + number * 7;
        match seed % 5 {
            0 => {
                kv.delete_range(DeleteRangeRequest { key: key(seed), ..Default::default() }).await.unwrap();
            }
            1 => {
                let op =
                    |n: usize| RequestOp { request: Some(Request::RequestPut(put(&key(seed + n), value.as_bytes()))) };
                kv.txn(TxnRequest { success: (0..3).map(op).collect(), ..Default::default() }).await.unwrap();
            }
            _ => {
                kv.put(put(&key(seed), value.as_bytes())).await.unwrap();
            }
        }
    }
}

/// Plays events over nothing: whether each fits the state before it, and so none was left out.
fn check_history(events: &[Event]) {
    let mut state: BTreeMap<Bytes, xebec_proto::mvccpb::KeyValue> = BTreeMap::new();
    let mut before = BTreeMap::new();
    let mut revision = 0;
    for event in events {
        let kv = event.kv.clone().unwrap();
        if modified(event) != revision {
            (revision, before) = (modified(event), state.clone());
        }
        assert_eq!(event.prev_kv.as_ref(), before.get(&kv.key), "prev_kv at {revision}");
        if event.r#type == i32::from(EventType::Put) {
            let version = before.get(&kv.key).map_or(1, |prev| prev.version + 1);
            assert_eq!(kv.version, version, "versions of {:?} have no gap at {revision}", kv.key);
            state.insert(kv.key.clone(), kv);
        } else {
            assert!(state.remove(&kv.key).is_some());
        }
    }
}

async fn current(channel: &Channel) -> i64 {
    let get = processes::get(b"k");
    KvClient::new(channel.clone()).range(get).await.unwrap().into_inner().header.unwrap().revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_watches_see_every_revision_once_whole_and_in_order_and_resume_anywhere() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let channel = || cluster.channel(0);
    let mut writers = JoinSet::new();
    let mut streams = Vec::new();
    // Half of the watches begin before the writers, half somewhere among the writes.
    for stream in 0..WATCHES / WATCHES_PER_STREAM {
        let start = if stream % 2 == 0 { 2 } else { 2 + 37 * stream as i64 };
        streams.push((start, watch(channel(), vec![everything(start); WATCHES_PER_STREAM]).await));
        if stream % 2 == 1 && writers.len() < WRITERS {
            writers.spawn(write(channel(), writers.len()));
        }
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let last = current(&channel()).await;
    let mut readers = JoinSet::new();
    for (start, stream) in streams {
        readers.spawn(async move { (start, stream.read_through(WATCHES_PER_STREAM, last).await) });
    }
    let mut history: Vec<Event> = Vec::new();
    let mut watched = Vec::new();
    while let Some(read) = readers.join_next().await {
        let (start, seen) = read.unwrap();
        for seen in seen {
            if start == 2 && history.is_empty() {
                history.clone_from(&seen.events);
            }
            watched.push((start, seen.events));
        }
    }
    check_history(&history);
    assert_eq!(history.last().map(modified), Some(last));
    assert_eq!(watched.len(), WATCHES);
    for (start, events) in &watched {
        let expected: Vec<&Event> = history.iter().filter(|event| modified(event) >= *start).collect();
        assert!(events.iter().eq(expected), "a watch from {start} differs");
    }
    // Resumed from any revision, also right after a compaction, a watch goes on as if it had never ended.
    let compacted = last / 3;
    KvClient::new(channel()).compact(CompactionRequest { revision: compacted, physical: true }).await.unwrap();
    let starts: Vec<i64> = (compacted + 1..=last).step_by(11).collect();
    let resumed = watch(channel(), starts.iter().map(|start| everything(*start)).collect()).await;
    for (start, seen) in starts.iter().zip(resumed.read_through(starts.len(), last).await) {
        let expected: Vec<&Event> = history.iter().filter(|event| modified(event) >= *start).collect();
        assert!(seen.events.iter().eq(expected), "a watch resumed from {start} differs");
    }
    let mut too_late = watch(channel(), vec![everything(compacted - 1)]).await;
    assert!(too_late.next().await.created);
    let canceled = too_late.next().await;
    assert_eq!((canceled.canceled, canceled.compact_revision), (true, compacted));
}

/// Resident bytes of a process.
fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_costs_bounded_memory_holds_up_nobody_and_gets_everything_later() {
    /// Bytes of each value, and how many are written: together much more than a stream may hold back.
    const VALUE_BYTES: usize = 64 * 1024;
    const VALUES: usize = 1_500;
    /// What the server may grow by meanwhile: its caches and event log, not the 100 MB that each lazy client is behind.
    const GROWTH_BYTES_MAX: u64 = 200 << 20;
    const LAZY_CLIENTS: usize = 10;
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let mut lazy = Vec::new();
    for _ in 0..LAZY_CLIENTS {
        let mut watching = watch(cluster.channel(0), vec![everything(0)]).await;
        assert!(watching.next().await.created);
        lazy.push(watching);
    }
    let mut eager = watch(cluster.channel(0), vec![everything(0)]).await;
    assert!(eager.next().await.created);
    let process = cluster.members[0].as_ref().unwrap().id();
    let before = resident_bytes(process);
    let mut kv = KvClient::new(cluster.channel(0));
    let value = vec![b'v'; VALUE_BYTES];
    let mut seen = Seen::default();
    for number in 0..VALUES {
        let revision = kv.put(PutRequest { ..put(&key(number), &value) }).await.unwrap().into_inner().header.unwrap();
        // Whoever reads gets each event as it happens.
        while seen.through < revision.revision {
            seen.take(eager.next().await);
        }
    }
    let growth = resident_bytes(process).saturating_sub(before);
    println!(
        "{LAZY_CLIENTS} clients {} MB behind: the server grew by {} MB",
        (VALUE_BYTES * VALUES) >> 20,
        growth >> 20
    );
    assert!(growth < GROWTH_BYTES_MAX, "{growth}");
    let last = current(&cluster.channel(0)).await;
    let late = lazy.remove(0).read_through(1, last).await;
    let revisions = |seen: &Seen| seen.events.iter().map(modified).collect::<Vec<_>>();
    assert_eq!(revisions(&late[0]), revisions(&seen));
}
