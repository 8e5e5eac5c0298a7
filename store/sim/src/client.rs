//! Clients: they speak etcd's gRPC to the simulated members and write down what they saw.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use xebec_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse, compare, kv_client::KvClient, lease_client::LeaseClient, request_op, response_op,
    watch_client::WatchClient, watch_request,
};
use xebec_store_raft::PeerTransport;

use xebec_store_dice::Dice;

use crate::{
    history::{Answer, Ask, History, Operation, Seen},
    network::{HostId, Network, Port},
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a watcher stays with a silent stream before it takes another.
const WATCH_PATIENCE: Duration = Duration::from_secs(6);
/// Keys that all clients fight over.
const KEYS: usize = 12;
/// What a member says that has no space.
pub const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Leases one client holds at a time.
const LEASES_HELD_MAX: usize = 3;

/// How often a client asks the member that is said to have no space.
const CURIOUS_PERCENT: u64 = 25;

/// Which machine is said to have no space. Clones are the same rumour.
#[derive(Debug, Clone, Default)]
pub struct Rumour(Arc<Mutex<Option<HostId>>>);

impl Rumour {
    /// Says it of this machine, or of none.
    pub fn say(&self, machine: Option<HostId>) {
        *self.0.lock() = machine;
    }

    fn heard(&self) -> Option<HostId> {
        *self.0.lock()
    }
}

/// What a client needs.
#[derive(Clone)]
pub struct Client {
    /// Its number.
    pub number: usize,
    /// Its host.
    pub host: HostId,
    /// Machines there are, whether members run on them or not.
    pub members: usize,
    /// How it reaches them.
    pub network: Network,
    /// What it hears.
    pub rumour: Rumour,
    /// Where it writes down what it saw.
    pub history: History,
    /// Told to end.
    pub done: Arc<AtomicBool>,
}

struct Memory {
    dice: Dice,
    operations: u64,
    /// Last known modification per key.
    modified: Vec<i64>,
    revision: i64,
    leases: Vec<i64>,
}

fn key(number: usize) -> String {
    format!("k/{number:02}")
}

impl Client {
    fn transport(&self, member: usize) -> PeerTransport {
        self.network.transport(self.host, member, Port::Client)
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Sends requests until it is told to end.
    pub async fn work(self, dice: Dice) {
        let mut memory = Memory { dice, operations: 0, modified: vec![0; KEYS], revision: 0, leases: Vec::new() };
        while !self.is_done() {
            let ask = self.choose(&mut memory);
            let mut member = memory.dice.below(self.members);
            if !self.network.is_up(member) {
                // Most clients know better than to ask a machine that is free; some do not.
                member = memory.dice.below(self.members);
            }
            if let Some(machine) = self.rumour.heard().filter(|_| memory.dice.percent(CURIOUS_PERCENT)) {
                member = machine;
            }
            let answer = self.perform(member, ask.clone()).await;
            learn(&mut memory, &ask, &answer);
            sleep(Duration::from_millis(memory.dice.within(1, 60))).await;
        }
    }

    fn choose(&self, memory: &mut Memory) -> Ask {
        memory.operations += 1;
        let value = format!("c{}-{}", self.number, memory.operations);
        let dice = &mut memory.dice;
        let number = dice.below(KEYS);
        match dice.within(0, 100) {
            0..22 => {
                let lease = if dice.percent(30) && !memory.leases.is_empty() { *dice.pick(&memory.leases) } else { 0 };
                Ask::Put { key: key(number), value, lease }
            }
            22..38 => Ask::CompareAndSet { key: key(number), expected: memory.modified[number], value },
            38..46 => Ask::PutAll { keys: (0..3).map(|step| key((number + step * 4) % KEYS)).collect(), value },
            46..51 => Ask::Delete { key: key(number), range_end: String::new() },
            51..53 => Ask::Delete { key: key(number), range_end: key(number + 3) },
            53..68 => Ask::Range { key: key(number), range_end: String::new(), serializable: false, revision: 0 },
            68..74 => Ask::Range { key: "k/".into(), range_end: "k0".into(), serializable: false, revision: 0 },
            74..80 => Ask::Range { key: "k/".into(), range_end: "k0".into(), serializable: true, revision: 0 },
            80..83 if memory.revision > 5 => Ask::Range {
                key: "k/".into(),
                range_end: "k0".into(),
                serializable: false,
                revision: memory.revision - dice.within(0, 5) as i64,
            },
            83..85 if memory.revision > 30 => Ask::Compact { revision: memory.revision - dice.within(5, 60) as i64 },
            85..90 if memory.leases.len() < LEASES_HELD_MAX => Ask::Grant {
                id: (self.number as i64 + 1) * 100_000 + memory.operations as i64,
                ttl_seconds: dice.within(2, 8) as i64,
            },
            90..98 if !memory.leases.is_empty() => Ask::KeepAlive { id: *dice.pick(&memory.leases) },
            98..99 if !memory.leases.is_empty() => Ask::Revoke { id: *dice.pick(&memory.leases) },
            _ => Ask::Put { key: key(number), value, lease: 0 },
        }
    }

    async fn perform(&self, member: usize, ask: Ask) -> Answer {
        let (began, began_millis) = (self.history.tick(), self.network.now_millis());
        let boot = self.network.boot(member);
        let answer = match timeout(PATIENCE, self.request(member, &ask)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => failure(&status),
            Err(_) => Answer::Unknown("the client's own patience ended".to_owned()),
        };
        let operation = Operation {
            client: self.number,
            member,
            boot,
            ask,
            began,
            ended: self.history.tick(),
            began_millis,
            ended_millis: self.network.now_millis(),
            answer: answer.clone(),
        };
        self.history.add(operation);
        answer
    }

    async fn request(&self, member: usize, ask: &Ask) -> Result<Answer, Status> {
        let mut kv = KvClient::new(self.transport(member));
        let mut leases = LeaseClient::new(self.transport(member));
        let revision =
            |header: Option<xebec_proto::etcdserverpb::ResponseHeader>| header.map_or(0, |header| header.revision);
        Ok(match ask.clone() {
            Ask::Put { key, value, lease } => {
                let request = put(key, value, lease);
                let response = kv.put(request).await?.into_inner();
                Answer::Put { revision: revision(response.header), prev: response.prev_kv }
            }
            Ask::Delete { key, range_end } => {
                let request = DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true };
                let response = kv.delete_range(request).await?.into_inner();
                Answer::Delete {
                    revision: revision(response.header),
                    deleted: response.deleted,
                    prev: response.prev_kvs,
                }
            }
            Ask::CompareAndSet { key, expected, value } => {
                let response = kv.txn(compare_and_set(key, expected, value)).await?.into_inner();
                let seen = response.responses.into_iter().filter_map(|response| match response.response {
                    Some(response_op::Response::ResponseRange(range)) => Some(range.kvs),
                    _ => None,
                });
                let (revision, succeeded) = (revision(response.header), response.succeeded);
                Answer::CompareAndSet { revision, succeeded, seen: seen.flatten().collect() }
            }
            Ask::PutAll { keys, value } => {
                let puts = keys.into_iter().map(|key| RequestOp {
                    request: Some(request_op::Request::RequestPut(put(key, value.clone(), 0))),
                });
                let response =
                    kv.txn(TxnRequest { success: puts.collect(), ..TxnRequest::default() }).await?.into_inner();
                Answer::PutAll { revision: revision(response.header), succeeded: response.succeeded }
            }
            Ask::Range { key, range_end, serializable, revision: at } => {
                let request = RangeRequest {
                    key: key.into(),
                    range_end: range_end.into(),
                    serializable,
                    revision: at,
                    ..RangeRequest::default()
                };
                let response = kv.range(request).await?.into_inner();
                Answer::Range { revision: revision(response.header), kvs: response.kvs }
            }
            Ask::Compact { revision } => {
                kv.compact(CompactionRequest { revision, physical: false }).await?;
                Answer::Compact
            }
            Ask::Grant { id, ttl_seconds } => {
                let response = leases.lease_grant(LeaseGrantRequest { id, ttl: ttl_seconds }).await?.into_inner();
                Answer::Grant { ttl_seconds: response.ttl }
            }
            Ask::KeepAlive { id } => {
                let request = tokio_stream::once(LeaseKeepAliveRequest { id });
                let mut answers = leases.lease_keep_alive(request).await?.into_inner();
                match answers.message().await? {
                    Some(response) => Answer::KeepAlive { ttl_seconds: response.ttl },
                    None => Answer::Unknown("the keep-alive stream ended".to_owned()),
                }
            }
            Ask::Revoke { id } => {
                let response = leases.lease_revoke(LeaseRevokeRequest { id }).await?.into_inner();
                Answer::Revoke { revision: revision(response.header) }
            }
        })
    }

    /// Watches a prefix for ever, from member to member, and misses nothing.
    pub async fn watch(self, mut dice: Dice, prefix: &'static str) {
        let number = self.history.add_watcher(prefix);
        let mut next = 0;
        loop {
            let member = dice.below(self.members);
            next = self.watch_once(member, number, prefix, next, &mut dice).await;
            self.history.saw(number, Seen::Broken, 0);
            sleep(Duration::from_millis(dice.within(10, 300))).await;
        }
    }

    /// One stream; answers with the revision to go on from.
    async fn watch_once(&self, member: usize, number: usize, prefix: &str, from: i64, dice: &mut Dice) -> i64 {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut range_end = prefix.as_bytes().to_vec();
        if let Some(last) = range_end.last_mut() {
            *last += 1;
        }
        let create = WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: range_end.into(),
            start_revision: from,
            prev_kv: true,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let request = |union| WatchRequest { request_union: Some(union) };
        let mut next = from;
        if requests.send(request(watch_request::RequestUnion::CreateRequest(create))).is_err() {
            return next;
        }
        let mut client = WatchClient::new(self.transport(member));
        let Ok(Ok(answers)) = timeout(WATCH_PATIENCE, client.watch(UnboundedReceiverStream::new(outgoing))).await
        else {
            return next;
        };
        let mut answers = answers.into_inner();
        loop {
            let Ok(Ok(Some(response))) = timeout(WATCH_PATIENCE, answers.message()).await else { return next };
            match self.saw(number, from, &mut next, response) {
                Some(()) => {}
                None => return next,
            }
            if dice.percent(3) {
                return next;
            }
            let progress = watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {});
            if dice.percent(20) && requests.send(request(progress)).is_err() {
                return next;
            }
        }
    }

    /// Notes a response; `None` ends the stream.
    fn saw(&self, number: usize, from: i64, next: &mut i64, response: WatchResponse) -> Option<()> {
        let header = response.header.map_or(0, |header| header.revision);
        if response.created {
            self.history.saw(number, Seen::Started { from, header }, if from == 0 { header } else { from - 1 });
            if *next == 0 {
                *next = header + 1;
            }
        }
        if response.canceled {
            if response.compact_revision > 0 {
                *next = response.compact_revision;
                self.history.saw(number, Seen::Compacted(response.compact_revision), response.compact_revision - 1);
            }
            return None;
        }
        if !response.events.is_empty() {
            let last = response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
            *next = last.map_or(*next, |last| last + 1);
            self.history.saw(number, Seen::Events(response.events), *next - 1);
        } else if !response.created {
            *next = (*next).max(header + 1);
            self.history.saw(number, Seen::Progress(header), header);
        }
        Some(())
    }
}

fn put(key: String, value: String, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, prev_kv: true, ..PutRequest::default() }
}

fn compare_and_set(key: String, expected: i64, value: String) -> TxnRequest {
    let condition = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone().into(),
        target_union: Some(compare::TargetUnion::ModRevision(expected)),
        ..Compare::default()
    };
    let read = RangeRequest { key: key.clone().into(), ..RangeRequest::default() };
    TxnRequest {
        compare: vec![condition],
        success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put(key, value, 0))) }],
        failure: vec![RequestOp { request: Some(request_op::Request::RequestRange(read)) }],
    }
}

fn learn(memory: &mut Memory, ask: &Ask, answer: &Answer) {
    match (ask, answer) {
        (Ask::CompareAndSet { key: name, .. }, Answer::CompareAndSet { revision, succeeded, seen }) => {
            memory.revision = memory.revision.max(*revision);
            if let Some(number) = (0..KEYS).find(|number| key(*number) == *name) {
                let seen = seen.first().map_or(0, |kv| kv.mod_revision);
                memory.modified[number] = if *succeeded { *revision } else { seen };
            }
        }
        (_, Answer::Put { revision, .. } | Answer::Range { revision, .. }) => {
            memory.revision = memory.revision.max(*revision);
        }
        (Ask::Grant { id, .. }, Answer::Grant { .. }) => memory.leases.push(*id),
        (Ask::KeepAlive { id }, Answer::KeepAlive { ttl_seconds: 0 }) | (Ask::Revoke { id }, _) => {
            memory.leases.retain(|held| held != id);
        }
        (Ask::Put { lease, .. }, Answer::Refused(_)) => memory.leases.retain(|held| held != lease),
        _ => {}
    }
}

/// What a failed call says about whether the request happened.
fn failure(status: &Status) -> Answer {
    let text = format!("{:?}: {}", status.code(), status.message());
    let surely_not = match status.code() {
        Code::OutOfRange | Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => true,
        Code::ResourceExhausted => status.message() == NO_SPACE,
        _ => status.message().contains("no leader") || status.message().contains("connection refused"),
    };
    if surely_not { Answer::Refused(text) } else { Answer::Unknown(text) }
}
