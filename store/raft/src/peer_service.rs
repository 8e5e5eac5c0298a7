//! What this member answers to the others.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, TryStreamExt};
use openraft::{
    errors::RaftError,
    raft::{AppendEntriesRequest, VoteRequest, VoteResponse},
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, service::interceptor::InterceptedService};
use xebec_planted::{PlantedBug, is_planted};
use xebec_proto::xebec::peer::v1::{
    Frame, LeaseRemainingRequest, LeaseRemainingResponse, LeaseRenewRequest, LeaseRenewResponse, MoveLeaderRequest,
    MoveLeaderResponse, ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse, SnapshotPart,
    leader_server::{Leader, LeaderServer},
    raft_server::{Raft, RaftServer},
    roster_server::RosterServer,
};
use xebec_store_core::{Command, LeaseId, LogPosition};

use crate::{
    admission::RosterService,
    error::RequestFailure,
    member::{Member, REQUEST_TIMEOUT},
    network::frame,
    peers::{CheckHeaders, FROM_KEY, PEER_MESSAGE_BYTES_MAX, id_in},
    proposer::{BATCH_COMMANDS_MAX, limited},
    renewals::RENEWALS_PER_ROUND_MAX,
    snapshot,
    traffic::PeerCounts,
    types::{AppendResult, TypeConfig, log_id},
    wire,
};

/// The peer services of a member.
#[derive(Clone)]
pub struct PeerService(Member);

impl PeerService {
    /// What is counted of the member that calls.
    fn counts(&self, metadata: &MetadataMap) -> Arc<PeerCounts> {
        let from = id_in(metadata, FROM_KEY).filter(|from| self.0.roster().member(*from).is_some());
        self.0.traffic().with(from.unwrap_or(0))
    }

    /// The services to mount on the peer port.
    pub fn routes(member: &Member) -> tonic::service::Routes {
        let check = CheckHeaders {
            cluster: member.cluster_id(),
            member: member.id(),
            papers: member.papers().clone(),
            rosters: member.rosters(),
        };
        let raft = RaftServer::new(Self(member.clone())).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let leader = LeaderServer::new(Self(member.clone())).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        tonic::service::Routes::new(InterceptedService::new(raft, check.clone()))
            .add_service(InterceptedService::new(leader, check))
            .add_service(RosterServer::new(RosterService(member.clone())))
    }
}

fn read<T: DeserializeOwned>(frame: &Frame) -> Result<T, Status> {
    wire::decode(&frame.body).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn write<T: Serialize>(message: &T) -> Result<Response<Frame>, Status> {
    frame(message).map(Response::new).map_err(|error| Status::internal(error.to_string()))
}

/// The planted bug: whoever asks for a vote is taken to have the longest log, and nobody who leads is in its way.
fn as_planted(request: VoteRequest<TypeConfig>) -> VoteRequest<TypeConfig> {
    if !is_planted(PlantedBug::VoteForStaleLogs) {
        return request;
    }
    let longest = log_id(&LogPosition { term: request.vote.leader_id.term, node: 0, index: u64::MAX });
    VoteRequest { last_log_id: Some(longest), leadership_transfer: true, ..request }
}

/// The planted bug's other half: who does not look at logs tells nobody that its own is longer. openraft lets a candidate that
/// was told so wait longer than the others before it stands again.
fn as_planted_answer(response: VoteResponse<TypeConfig>) -> VoteResponse<TypeConfig> {
    if is_planted(PlantedBug::VoteForStaleLogs) { VoteResponse { last_log_id: None, ..response } } else { response }
}

fn stopped<E: std::error::Error>(error: &E) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl Raft for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::AppendStream>, Status> {
        let (member, counts) = (self.0.clone(), self.counts(request.metadata()));
        let requests = request
            .into_inner()
            .inspect_ok(move |frame| counts.received(frame.body.len()))
            .map(|frame| frame.and_then(|frame| read::<AppendEntriesRequest<TypeConfig>>(&frame)))
            .inspect_ok(move |request| member.heard().note(&request.vote))
            .take_while(|request| {
                if let Err(status) = request {
                    tracing::debug!(%status, "a replication stream ended");
                }
                std::future::ready(request.is_ok())
            })
            .filter_map(|request| std::future::ready(request.ok()));
        let results = self.0.raft().stream_append(requests).map(|result| match result {
            Ok(result) => frame::<AppendResult>(&result).map_err(|error| Status::internal(error.to_string())),
            Err(fatal) => Err(stopped(&fatal)),
        });
        Ok(Response::new(Box::pin(results)))
    }

    async fn heartbeat(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        self.counts(request.metadata()).received(request.get_ref().body.len());
        let request: AppendEntriesRequest<TypeConfig> = read(request.get_ref())?;
        self.0.heard().note(&request.vote);
        let response = self.0.raft().append_entries(request).await.map_err(|error| stopped(&error))?;
        write(&response)
    }

    async fn vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request = as_planted(read(request.get_ref())?);
        let response = self.0.raft().vote(request).await.map_err(|error| stopped(&error))?;
        write(&as_planted_answer(response))
    }

    async fn pre_vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request = as_planted(read(request.get_ref())?);
        let response = self.0.raft().pre_vote(request).await.map_err(|error: RaftError<TypeConfig>| stopped(&error))?;
        write(&as_planted_answer(response))
    }

    async fn transfer_leader(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request = read(request.get_ref())?;
        let response = self.0.raft().handle_transfer_leader(request).await.map_err(|error| stopped(&error))?;
        write(&response)
    }

    async fn install_snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<Frame>, Status> {
        let dir = self.0.machine().next_snapshot_dir("incoming");
        let (vote, snapshot) = snapshot::receive(request.into_inner(), dir).await.map_err(|error| {
            tracing::warn!(%error, "a snapshot was not received");
            Status::aborted(error.to_string())
        })?;
        tracing::info!(meta = %snapshot.meta, "received a snapshot");
        self.0.heard().note(&vote);
        let response = self.0.raft().install_full_snapshot(vote, snapshot).await.map_err(|error| stopped(&error))?;
        write(&response)
    }
}

/// Failures as peers read them: FailedPrecondition means "nothing happened, ask another".
fn status(failure: RequestFailure) -> Status {
    let text = failure.to_string();
    match failure {
        RequestFailure::NoLeader | RequestFailure::NotLeader => Status::failed_precondition(text),
        RequestFailure::TooManyRequests => Status::resource_exhausted(text),
        RequestFailure::Timeout => Status::deadline_exceeded(text),
        RequestFailure::UnknownMember(_) => Status::not_found(text),
        RequestFailure::Malformed(_) => Status::internal(text),
        RequestFailure::LeaderChanged | RequestFailure::Stopped => Status::unavailable(text),
    }
}

/// What to say of a batch once it is queued: some of it may have happened, and the caller must not take it for refused.
fn once_queued(failure: RequestFailure) -> RequestFailure {
    match failure {
        RequestFailure::NoLeader | RequestFailure::NotLeader | RequestFailure::TooManyRequests => {
            RequestFailure::LeaderChanged
        }
        failure => failure,
    }
}

#[tonic::async_trait]
impl Leader for PeerService {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let commands = request.into_inner().commands;
        if commands.len() > BATCH_COMMANDS_MAX {
            return Err(Status::invalid_argument(format!("more than {BATCH_COMMANDS_MAX} commands")));
        }
        if !self.0.leads() {
            return Err(status(RequestFailure::NotLeader));
        }
        let commands: Result<Vec<Command>, _> = commands.iter().map(|command| wire::decode(command)).collect();
        let commands = commands.map_err(|error| Status::invalid_argument(error.to_string()))?;
        // All are queued or none: only before that may the answer be that nothing happened.
        let answers = self.0.queue_all(commands).map_err(status)?;
        let outcomes = futures::future::try_join_all(answers).await.map_err(|failure| status(once_queued(failure)))?;
        let encoded: Result<Vec<_>, _> = outcomes.iter().map(|outcome| wire::encode(outcome).map(Into::into)).collect();
        let outcomes = encoded.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(ProposeResponse { outcomes }))
    }

    async fn read_index(&self, _request: Request<ReadIndexRequest>) -> Result<Response<ReadIndexResponse>, Status> {
        if !self.0.leads() {
            return Err(status(RequestFailure::NotLeader));
        }
        // One quorum's confirmation serves the readers of all members.
        let index = self.0.read_index().await.map_err(status)?;
        Ok(Response::new(ReadIndexResponse { index }))
    }

    async fn lease_renew(&self, request: Request<LeaseRenewRequest>) -> Result<Response<LeaseRenewResponse>, Status> {
        let ids: Vec<LeaseId> = request.into_inner().ids.into_iter().map(LeaseId).collect();
        if ids.len() > RENEWALS_PER_ROUND_MAX {
            return Err(Status::invalid_argument(format!("more than {RENEWALS_PER_ROUND_MAX} leases")));
        }
        let renewed = self.0.renew_leases_as_leader(&ids).await.map_err(status)?;
        let ttl_seconds = renewed.into_iter().map(|seconds| seconds.unwrap_or(0)).collect();
        Ok(Response::new(LeaseRenewResponse { ttl_seconds }))
    }

    async fn lease_remaining(
        &self,
        request: Request<LeaseRemainingRequest>,
    ) -> Result<Response<LeaseRemainingResponse>, Status> {
        let life = self.0.lease_life_as_leader(LeaseId(request.get_ref().id)).await.map_err(status)?;
        Ok(Response::new(match life {
            None => LeaseRemainingResponse::default(),
            Some(life) => LeaseRemainingResponse {
                found: true,
                granted_seconds: life.granted_seconds,
                left_seconds: life.left_seconds,
            },
        }))
    }

    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        let moved = limited(REQUEST_TIMEOUT, self.0.move_leader(request.get_ref().target)).await;
        moved.and_then(|moved| moved).map_err(status)?;
        Ok(Response::new(MoveLeaderResponse {}))
    }

    async fn change_membership(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let change = read(request.get_ref())?;
        let outcome = self.0.change_membership_as_leader(&change).await.map_err(|failure| match failure {
            // Something may have happened: the caller must not try again.
            RequestFailure::NoLeader => status(RequestFailure::LeaderChanged),
            failure => status(failure),
        })?;
        write(&outcome)
    }
}
