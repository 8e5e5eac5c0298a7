//! The Election service (etcd `server/etcdserver/api/v3election/election.go`, `client/v3/concurrency/election.go`).

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use xebec_proto::{
    etcdserverpb::{RangeRequest, ResponseHeader, TxnRequest},
    mvccpb,
    v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
        ResignRequest, ResignResponse, election_server::Election,
    },
};
use xebec_store_core::{EventKind, KeyRange, Revision};

use super::{
    caller::{self, Caller},
    candidacy::{self, Candidacy},
    key_watch::KeyWatch,
};
use crate::{context::Context, convert};

/// Leaders that wait for a slow observer.
const LEADERS_AHEAD_MAX: usize = 16;

pub(crate) struct ElectionService(pub Context);

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn missing_leader() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

/// Writes a new value into the leader's key, if it still is the one that was created at `revision`.
async fn proclaim(
    caller: &Caller,
    key: &Bytes,
    revision: i64,
    lease: i64,
    value: &Bytes,
) -> Result<Option<ResponseHeader>, Status> {
    let txn = TxnRequest {
        compare: vec![caller::created_at(key, revision)],
        success: vec![caller::put(key, value, lease)],
        failure: vec![],
    };
    let response = caller.txn(txn).await?;
    if response.succeeded { Ok(response.header) } else { Err(not_leader()) }
}

#[tonic::async_trait]
impl Election for ElectionService {
    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let lease = caller.session(request.lease).await?;
        let prefix = candidacy::prefix(&request.name);
        let key = candidacy::key(&prefix, lease);
        let txn = TxnRequest {
            compare: vec![caller::created_at(&key, 0)],
            success: vec![caller::put(&key, &request.value, lease)],
            failure: vec![caller::get(RangeRequest { key: key.clone(), ..RangeRequest::default() })],
        };
        let entered = caller.txn(txn).await?;
        let mut revision = entered.header.as_ref().map_or(0, |header| header.revision);
        let known = caller::first_read(entered.responses.first()).filter(|_| !entered.succeeded).cloned();
        revision = known.as_ref().map_or(revision, |kv| kv.create_revision);
        let waiting = Candidacy { caller: caller.clone(), prefix, key: key.clone(), revision }.waiting();
        let won = async {
            if known.is_some_and(|kv| kv.value != request.value) {
                proclaim(&caller, &key, revision, lease, &request.value).await?;
            }
            match waiting.candidacy() {
                Some(candidacy) => candidacy.turn().await,
                None => Ok(()),
            }
        };
        if let Err(status) = won.await {
            waiting.failed().await;
            return Err(status);
        }
        drop(waiting.done());
        let leader = LeaderKey { name: request.name, key, rev: revision, lease };
        Ok(Response::new(CampaignResponse { header: entered.header, leader: Some(leader) }))
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let leader = request.leader.ok_or_else(missing_leader)?;
        let lease = caller.session(leader.lease).await?;
        let header = proclaim(&caller, &leader.key, leader.rev, lease, &request.value).await?;
        Ok(Response::new(ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let read = caller.range(candidacy::oldest(&candidacy::prefix(&request.name))).await?;
        let kv = read.kvs.into_iter().next().ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(LeaderResponse { header: read.header, kv: Some(kv) }))
    }

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let prefix = candidacy::prefix(&request.name);
        let (leaders, rx) = mpsc::channel(LEADERS_AHEAD_MAX);
        let observer = Observer { caller, prefix, leaders };
        tokio::spawn(observer.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let leader = request.leader.ok_or_else(missing_leader)?;
        let prefix = candidacy::prefix(&leader.name);
        // Somebody else's leadership is left alone, and that is no error.
        let resigned = Candidacy { caller, prefix, key: leader.key, revision: leader.rev }.withdraw().await?;
        Ok(Response::new(ResignResponse { header: resigned.header }))
    }
}

/// Tells a client who leads, one after the other; what happens between two of them may be left out.
struct Observer {
    caller: Caller,
    prefix: Bytes,
    leaders: mpsc::Sender<Result<LeaderResponse, Status>>,
}

impl Observer {
    async fn run(self) {
        let leaders = self.leaders.clone();
        let ended = tokio::select! {
            ended = self.observe() => ended,
            () = leaders.closed() => return,
        };
        // As in etcd, history that was compacted away ends the stream without an error.
        if let Err(status) = ended
            && status.message() != crate::status::COMPACTED
            && leaders.send(Err(status)).await.is_err()
        {
            tracing::debug!("an observer was gone already");
        }
    }

    async fn observe(&self) -> Result<(), Status> {
        loop {
            let Some((kv, seen)) = self.find().await? else {
                return Ok(());
            };
            if !self.follow(kv.key, seen).await? {
                return Ok(());
            }
        }
    }

    /// Sends the current leader, or waits for the first one. Answers its key and the revision up to which it was seen.
    async fn find(&self) -> Result<Option<(mvccpb::KeyValue, i64)>, Status> {
        let read = self.caller.range(candidacy::oldest(&self.prefix)).await?;
        let mut header = read.header.unwrap_or_default();
        let kv = match read.kvs.into_iter().next() {
            Some(kv) => kv,
            None => {
                let range = KeyRange::prefix(&self.prefix);
                let mut watch = KeyWatch::new(&self.caller.context, range, Revision(header.revision));
                loop {
                    let put = watch.next().await?.events.into_iter().find(|event| event.kind == EventKind::Put);
                    if let Some(event) = put {
                        header.revision = event.kv.mod_revision.0;
                        break convert::key_value(event.kv);
                    }
                }
            }
        };
        let seen = header.revision;
        let leader = LeaderResponse { header: Some(header), kv: Some(kv.clone()) };
        Ok(self.leaders.send(Ok(leader)).await.is_ok().then_some((kv, seen)))
    }

    /// Sends what a leader proclaims, until its key is gone. `false`: the client is gone.
    async fn follow(&self, key: Bytes, seen: i64) -> Result<bool, Status> {
        let mut watch = KeyWatch::new(&self.caller.context, KeyRange::Key(key), Revision(seen).next());
        loop {
            let delivery = watch.next().await?;
            for event in delivery.events {
                if event.kind == EventKind::Delete {
                    return Ok(true);
                }
                let header = self.caller.context.header(delivery.revision);
                let leader = LeaderResponse { header: Some(header), kv: Some(convert::key_value(event.kv)) };
                if self.leaders.send(Ok(leader)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
}
