//! The Maintenance service and gRPC's health service.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use xebec_proto::{
    etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction, maintenance_server::Maintenance},
    grpc::health::v1::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
    },
};
use xebec_store_core::{Alarm, AlarmKind, Command, ReadView, Response as Outcome, Revision};

use crate::{
    auth::{Credentials, Demand},
    context::{Context, blocking},
    downgrade, snapshot,
    status::{self, IntoStatus},
    upkeep,
    version::SERVER_VERSION,
};

pub(crate) struct MaintenanceService(pub Context);

fn alarm_kind(alarm: i32) -> Result<Option<AlarmKind>, Status> {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::None) => Ok(None),
        Ok(AlarmType::Nospace) => Ok(Some(AlarmKind::NoSpace)),
        Ok(AlarmType::Corrupt) => Ok(Some(AlarmKind::Corrupt)),
        Err(_) => Err(Status::invalid_argument("etcdserver: unknown alarm")),
    }
}

fn alarm_member(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member, alarm: kind.into() }
}

/// What ails this member, in etcd's words.
fn errors(context: &Context) -> Vec<String> {
    let status = context.member.status();
    let mut errors = Vec::new();
    if status.leader.is_none() {
        errors.push(status::no_leader().message().to_owned());
    }
    errors.extend(context.member.keyspace().view().alarms().into_iter().map(|alarm| {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        format!("memberID:{} alarm:{kind} ", alarm.member)
    }));
    errors.extend(status.failed);
    errors
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    type SnapshotStream = snapshot::SnapshotStream;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let is_get = request.action == i32::from(AlarmAction::Get);
        self.0.authorize(&credentials, if is_get { Demand::Known } else { Demand::Admin }).await?;
        let kind = alarm_kind(request.alarm)?;
        let action = AlarmAction::try_from(request.action)
            .map_err(|_| Status::invalid_argument("etcdserver: unknown alarm action"))?;
        let command = match (action, kind) {
            (AlarmAction::Get, _) => None,
            (AlarmAction::Activate, Some(kind)) => {
                Some(Command::AlarmActivate(Alarm { member: request.member_id, kind }))
            }
            (AlarmAction::Deactivate, Some(kind)) => {
                Some(Command::AlarmDeactivate(Alarm { member: request.member_id, kind }))
            }
            (AlarmAction::Activate | AlarmAction::Deactivate, None) => None,
        };
        let alarms = match command {
            Some(command) => match self.0.propose_as(&credentials, command).await? {
                Outcome::Alarm(response) => response.alarms,
                _ => return Err(Status::internal("etcdserver: internal error")),
            },
            None => {
                let alarms = self.0.any_view(false).await?.alarms();
                alarms.into_iter().filter(|alarm| kind.is_none_or(|kind| alarm.kind == kind)).collect()
            }
        };
        let revision = self.0.member.keyspace().view().current_revision();
        Ok(Response::new(pb::AlarmResponse {
            header: Some(self.0.header(revision)),
            alarms: alarms.into_iter().map(alarm_member).collect(),
        }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Known).await?;
        let status = self.0.member.status();
        let view = self.0.member.keyspace().view();
        let downgrade = downgrade::info(&view)?;
        let keyspace = self.0.member.keyspace().clone();
        let sizes = blocking(move || keyspace.sizes().map_err(IntoStatus::into_status)).await?;
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header(view.current_revision())),
            version: SERVER_VERSION.to_owned(),
            db_size: i64::try_from(sizes.disk_bytes).unwrap_or(i64::MAX),
            leader: status.leader.unwrap_or(0),
            raft_index: status.last_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors: errors(&self.0),
            db_size_in_use: i64::try_from(sizes.live_bytes).unwrap_or(i64::MAX),
            is_learner: status.is_learner,
            storage_version: downgrade::cluster_version(&view)?,
            db_size_quota: self.0.limits.quota_bytes,
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: downgrade.enabled,
                target_version: downgrade.target_version,
            }),
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        // RocksDB needs no defragmentation; this merely gives back space soon that it would give back in time.
        upkeep::reclaim(&self.0);
        Ok(Response::new(pb::DefragmentResponse { header: Some(self.0.header(Revision(0))) }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        let (revision, hash) = snapshot::hash(&self.0).await?;
        Ok(Response::new(pb::HashResponse { header: Some(self.0.header(revision)), hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        let keyspace = self.0.member.keyspace().clone();
        let revision = Revision(request.get_ref().revision);
        let hashed = blocking(move || keyspace.hash_kv(revision).map_err(IntoStatus::into_status)).await?;
        let current = self.0.member.keyspace().view().current_revision();
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.0.header(current)),
            hash: hashed.hash,
            // etcd's word for a history that was never compacted.
            compact_revision: if hashed.compact_revision.0 == 0 { -1 } else { hashed.compact_revision.0 },
            hash_revision: hashed.hash_revision.0,
        }))
    }

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        // Nobody should restore this one.
        self.0.check_health()?;
        Ok(Response::new(snapshot::stream(&self.0).await?))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        self.0.member.move_leader(request.get_ref().target_id).await.map_err(IntoStatus::into_status)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: Some(self.0.header(Revision(0))) }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let credentials = Credentials::of(&request);
        self.0.authorize(&credentials, Demand::Admin).await?;
        let propose = async |command| self.0.propose_as(&credentials, command).await.map(|_| ());
        Ok(Response::new(downgrade::downgrade(&self.0, request.into_inner(), propose).await?))
    }
}

pub(crate) struct HealthService(pub Context);

fn serving(has_leader: bool) -> HealthCheckResponse {
    let status = if has_leader { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(serving(self.0.member.leaders().borrow().is_some())))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let leaders = WatchStream::new(self.0.member.leaders()).map(|leader| Ok(serving(leader.is_some())));
        let stopped = self.0.member.stopped().clone();
        Ok(Response::new(Box::pin(leaders.take_until(stopped.cancelled_owned()))))
    }
}
