//! openraft's network over the peer service.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status};
use xebec_proto::xebec::peer::v1::{Frame, raft_client::RaftClient};

use crate::{
    peers::{PeerChannel, Peers, Purpose},
    snapshot::{self, SnapshotData},
    traffic::PeerCounts,
    types::{MemberId, MemberNode, TypeConfig, Vote},
    wire,
};

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes clients for openraft.
#[derive(Debug, Clone)]
pub(crate) struct Network(pub Arc<Peers>);

/// One member as openraft's tasks reach it.
#[derive(Debug)]
pub(crate) struct PeerClient {
    peers: Arc<Peers>,
    to: MemberId,
    node: MemberNode,
    purpose: Purpose,
    counts: Arc<PeerCounts>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: MemberId, node: &MemberNode) -> PeerClient {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: MemberId, node: &MemberNode) -> PeerClient {
        self.client(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: MemberId, node: &MemberNode) -> PeerClient {
        self.client(target, node, Purpose::Snapshot)
    }
}

impl Network {
    fn client(&self, to: MemberId, node: &MemberNode, purpose: Purpose) -> PeerClient {
        PeerClient { peers: self.0.clone(), to, node: node.clone(), purpose, counts: self.0.traffic().with(to) }
    }
}

impl PeerClient {
    fn client(&self) -> Result<RaftClient<PeerChannel>, Unreachable<TypeConfig>> {
        self.peers.raft(self.to, &self.node, self.purpose)
    }

    fn request<T: Serialize>(&self, message: &T) -> Rpc<Frame> {
        let frame = frame(message).map_err(|error| NetworkError::new(&error))?;
        self.counts.sent(frame.body.len());
        Ok(frame)
    }

    fn reply<T: DeserializeOwned>(&self, response: Result<Response<Frame>, Status>) -> Rpc<T> {
        if let Ok(response) = &response {
            self.counts.received(response.get_ref().body.len());
        }
        reply(response)
    }
}

/// Wraps a Raft message for the wire.
pub(crate) fn frame<T: Serialize>(message: &T) -> Result<Frame, wire::WireError> {
    Ok(Frame { format: u32::from(wire::FORMAT), body: wire::encode(message)?.into() })
}

fn reply<T: DeserializeOwned>(response: Result<Response<Frame>, Status>) -> Rpc<T> {
    let frame = response.map_err(|status| failure(&status))?.into_inner();
    wire::decode(&frame.body).map_err(|error| NetworkError::new(&error).into())
}

/// openraft backs off from a member that is unreachable and retries the rest at once.
fn failure(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => Unreachable::new(status).into(),
        _ => NetworkError::new(status).into(),
    }
}

/// Awaits a call for as long as openraft would wait.
async fn within<T>(option: &RPCOption, call: impl Future<Output = Rpc<T>>) -> Rpc<T> {
    match timeout(option.soft_ttl(), call).await {
        Ok(result) => result,
        Err(elapsed) => Err(NetworkError::new(&elapsed).into()),
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let mut client = self.client()?;
        let request = self.request(&rpc)?;
        let begun = Instant::now();
        let answer = within(&option, async { self.reply(client.heartbeat(request).await) }).await;
        match &answer {
            Ok(_) => self.counts.round_trips().observe(begun.elapsed()),
            Err(_) => self.counts.heartbeat_failed(),
        }
        answer
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Purpose::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft waits out its back-off while making a request, so one has to be asked for before connecting: a
            // member that refuses connections would otherwise be tried again without any pause.
            let mut input = input.peekable();
            if Pin::new(&mut input).peek().await.is_none() {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, _>);
            }
            let mut client = self.client()?;
            let (sent, received) = (self.counts.clone(), self.counts.clone());
            let requests = input
                .map(|request| frame(&request))
                .inspect_ok(move |frame| sent.sent(frame.body.len()))
                .take_while(|frame| {
                    if let Err(error) = frame {
                        tracing::error!(%error, "cannot encode log entries");
                    }
                    std::future::ready(frame.is_ok())
                })
                .filter_map(|frame| std::future::ready(frame.ok()));
            // Setting up takes a round trip; a stream that stops answering is noticed by HTTP/2 keep-alive.
            let responses =
                within(&option, async move { client.append(requests).await.map_err(|status| failure(&status)) })
                    .await?
                    .into_inner();
            let results = responses
                .inspect_ok(move |frame| received.received(frame.body.len()))
                .map(|response| reply(response.map(Response::new)));
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client()?;
        let request = self.request(&rpc)?;
        within(&option, async { self.reply(client.vote(request).await) }).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        let mut client = self.client()?;
        let request = self.request(&rpc)?;
        within(&option, async { self.reply(client.pre_vote(request).await) }).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client()?;
        let parts =
            snapshot::send(&vote, &snapshot.meta, snapshot.snapshot).map_err(|error| NetworkError::new(&error))?;
        let call = async move { reply(client.install_snapshot(parts).await).map_err(StreamingError::from) };
        tokio::select! {
            result = call => result,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let mut client = self.client()?;
        let request = self.request(&rpc)?;
        within(&option, async { self.reply(client.transfer_leader(request).await) }).await
    }
}
