//! Plays a sequence against one server and writes down what came back, without identities and times.

use std::fmt::Debug;

use tonic::transport::Channel;
use tonic::{Response, Status};
use xebec_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, ResponseHeader,
    WatchCreateRequest, kv_client::KvClient, lease_client::LeaseClient,
};

use crate::generate::{CLIENTS, STREAMS};
use crate::server::Server;
use crate::step::{Step, Turn};
use crate::watches::Stream;

/// What a sequence came to.
pub struct Transcript {
    /// One line for each turn.
    pub outcomes: Vec<String>,
    /// Every event, in order.
    pub journal: Vec<String>,
}

struct Player<'s> {
    server: &'s Server,
    base: i64,
    /// The compacted revision, as far as this sequence has moved it.
    compacted: i64,
    journal: Stream,
    streams: Vec<Stream>,
}

fn kv(channel: &Channel) -> KvClient<Channel> {
    KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX)
}

/// A response as text, its header reduced to the revision.
fn shown<T: Debug>(
    result: Result<Response<T>, Status>,
    scrub: impl FnOnce(&mut T) -> &mut Option<ResponseHeader>,
) -> String {
    match result {
        Ok(response) => {
            let mut response = response.into_inner();
            match scrub(&mut response) {
                Some(header) => {
                    let complete = header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0;
                    assert!(complete, "a header without identities: {header:?}");
                    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
                }
                None => return format!("without a header: {response:?}"),
            }
            format!("{response:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

/// The server's revision.
pub async fn revision(server: &Server) -> i64 {
    let get = RangeRequest { key: "revision".into(), ..Default::default() };
    kv(&server.channels[0]).range(get).await.unwrap().into_inner().header.unwrap().revision
}

/// Empties a server: no keys, no leases.
pub async fn empty(server: &Server) {
    let mut leases = LeaseClient::new(server.channels[0].clone());
    for lease in leases.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
        leases.lease_revoke(LeaseRevokeRequest { id: lease.id }).await.unwrap();
    }
    let everything = DeleteRangeRequest { key: vec![0].into(), range_end: vec![0].into(), prev_kv: false };
    kv(&server.channels[0]).delete_range(everything).await.unwrap();
}

/// Takes an empty server to a revision at least two ahead, empty and without history.
pub async fn advance(server: &Server, to: i64) {
    let mut kv = kv(&server.channels[0]);
    let put = PutRequest { key: "reset".into(), ..Default::default() };
    for _ in revision(server).await..to - 1 {
        kv.put(put.clone()).await.unwrap();
    }
    kv.delete_range(DeleteRangeRequest { key: "reset".into(), ..Default::default() }).await.unwrap();
    kv.compact(CompactionRequest { revision: to, physical: true }).await.unwrap();
}

/// Plays `turns` on an empty server at revision `base`.
pub async fn play(server: &Server, turns: &[Turn], base: i64) -> Transcript {
    let watching = &server.channels[CLIENTS];
    let open = || Stream::open(watching.clone());
    let streams = (0..STREAMS).map(|_| open()).collect();
    let mut player = Player { server, base, compacted: base, journal: open(), streams };
    let everything =
        WatchCreateRequest { key: vec![0].into(), range_end: vec![0].into(), prev_kv: true, ..Default::default() };
    player.journal.create(everything, base).await;
    let mut outcomes = Vec::new();
    for turn in turns {
        outcomes.push(player.take(turn).await);
    }
    outcomes.push(player.settle().await);
    let journal = player.events().await.unwrap_or_default();
    Transcript { outcomes, journal: journal.iter().map(|event| format!("{event:?}")).collect() }
}

impl Player<'_> {
    async fn take(&mut self, turn: &Turn) -> String {
        let channel = self.server.channels[turn.client].clone();
        match turn.step.at(self.base) {
            Step::Range(request) => shown(kv(&channel).range(request).await, |response| &mut response.header),
            Step::Put(request) => shown(kv(&channel).put(request).await, |response| &mut response.header),
            Step::Delete(request) => shown(kv(&channel).delete_range(request).await, |response| &mut response.header),
            Step::Txn(request) => shown(kv(&channel).txn(request).await, |response| &mut response.header),
            Step::Compact(request) => self.compact(&channel, request).await,
            Step::Grant(request) => grant(&channel, request).await,
            Step::Revoke(id) => revoke(&channel, id).await,
            Step::GrantBriefly(request) => {
                let granted = grant(&channel, request).await;
                format!("{granted}, then {}", revoke(&channel, request.id).await)
            }
            Step::TimeToLive { id, keys } => time_to_live(&channel, id, keys).await,
            Step::KeepAlive(id) => keep_alive(&channel, id).await,
            Step::Leases => leases(&channel).await,
            Step::Watch { stream, request } => self.streams[stream].create(request, self.compacted).await,
            Step::CancelWatch { stream, watch_id } => {
                let settled = self.settle().await;
                format!("{settled}{}", self.streams[stream].cancel(watch_id).await)
            }
            Step::Progress { stream } => {
                let settled = self.settle().await;
                let current = revision(self.server).await;
                format!("{settled}{}", self.streams[stream].progress(current).await)
            }
            Step::Settle => self.settle().await,
        }
    }

    /// Compacts, once every watch has what it is owed: whether one that lags is cancelled is a matter of timing.
    async fn compact(&mut self, channel: &Channel, request: CompactionRequest) -> String {
        let settled = self.settle().await;
        let result = kv(channel).compact(request).await;
        if result.is_ok() {
            self.compacted = request.revision;
        }
        format!("{settled}{}", shown(result, |response| &mut response.header))
    }

    async fn events(&self) -> Result<Vec<xebec_proto::mvccpb::Event>, String> {
        let current = revision(self.server).await;
        if current == self.base { Ok(Vec::new()) } else { self.journal.journal(current).await }
    }

    /// Empty if every watch has what the journal says.
    async fn settle(&mut self) -> String {
        let journal = match self.events().await {
            Ok(journal) => journal,
            Err(fault) => return fault,
        };
        let mut faults = String::new();
        for (number, stream) in self.streams.iter_mut().enumerate() {
            for fault in stream.settle(&journal).await {
                faults.push_str(&format!("stream {number}: {fault}; "));
            }
        }
        faults
    }
}

async fn grant(channel: &Channel, request: LeaseGrantRequest) -> String {
    let result = LeaseClient::new(channel.clone()).lease_grant(request).await;
    shown(result, |response| {
        if request.id == 0 {
            assert!(response.id > 0, "a chosen lease id: {}", response.id);
            response.id = 0;
        }
        &mut response.header
    })
}

async fn revoke(channel: &Channel, id: i64) -> String {
    let result = LeaseClient::new(channel.clone()).lease_revoke(LeaseRevokeRequest { id }).await;
    shown(result, |response| &mut response.header)
}

async fn time_to_live(channel: &Channel, id: i64, keys: bool) -> String {
    /// Seconds by which two servers may differ: they were not asked at the same moment.
    const TOLERANCE: i64 = 30;
    let request = LeaseTimeToLiveRequest { id, keys };
    shown(LeaseClient::new(channel.clone()).lease_time_to_live(request).await, |response| {
        if response.ttl <= response.granted_ttl && response.ttl > response.granted_ttl - TOLERANCE {
            response.ttl = response.granted_ttl;
        }
        // etcd's come in no order.
        response.keys.sort();
        &mut response.header
    })
}

async fn leases(channel: &Channel) -> String {
    /// No id that a server chooses is that small; those that are chosen differ.
    const EXPLICIT_MAX: i64 = 1_000;
    shown(LeaseClient::new(channel.clone()).lease_leases(LeaseLeasesRequest {}).await, |response| {
        for lease in &mut response.leases {
            if lease.id > EXPLICIT_MAX && lease.id != i64::MAX {
                lease.id = EXPLICIT_MAX;
            }
        }
        response.leases.sort_by_key(|lease| lease.id);
        &mut response.header
    })
}

async fn keep_alive(channel: &Channel, id: i64) -> String {
    let request = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = match LeaseClient::new(channel.clone()).lease_keep_alive(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return format!("{:?}: {}", status.code(), status.message()),
    };
    let answer = answers.message().await.transpose().unwrap_or_else(|| Err(Status::unknown("no answer")));
    shown(answer.map(Response::new), |response: &mut LeaseKeepAliveResponse| &mut response.header)
}
