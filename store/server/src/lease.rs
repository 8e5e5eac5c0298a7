//! The Lease service.

use std::{
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use xebec_proto::etcdserverpb::{self as pb, lease_server::Lease};
use xebec_store_core::{
    ClusterTime, Command, LeaseGrant, LeaseId, LeaseRevoke, ReadView, RequestError, Response as Outcome,
    auth::permit_lease_sight, validate,
};

use crate::{
    auth::{Credentials, Demand, permit},
    context::Context,
    status::IntoStatus,
};

/// Bytes a lease takes on disk.
const LEASE_BYTES: usize = 64;
/// Tries to find an id that no lease has.
const ID_ATTEMPTS_MAX: u64 = 8;

pub(crate) struct LeaseService(pub Context);

/// The smallest TTL: one and a half election timeouts, in whole seconds (etcd `server/etcdserver/server.go`).
fn ttl_seconds_min(election_timeout: Duration) -> i64 {
    let millis = election_timeout.as_millis() * 3 / 2;
    i64::try_from(millis.div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// A positive id that is most likely free.
fn random_id(attempt: u64) -> LeaseId {
    let id = RandomState::new().hash_one(attempt) >> 1;
    LeaseId(i64::try_from(id.max(1)).unwrap_or(1))
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        self.0.check_health()?;
        self.0.authorize(&Credentials::of(&request), Demand::Known).await?;
        let request = request.into_inner();
        validate::lease_ttl(request.ttl).map_err(IntoStatus::into_status)?;
        let ttl_seconds = request.ttl.max(ttl_seconds_min(self.0.limits.election_timeout));
        self.0.check_quota(LEASE_BYTES).await?;
        for attempt in 0..ID_ATTEMPTS_MAX {
            let id = if request.id == 0 { random_id(attempt) } else { LeaseId(request.id) };
            // The leader stamps the time.
            let command = Command::LeaseGrant(LeaseGrant { id, ttl_seconds, now: ClusterTime::default() });
            let outcome = self.0.member.propose(command).await.map_err(IntoStatus::into_status)?;
            match outcome {
                Err(RequestError::LeaseExists) if request.id == 0 => {}
                Err(refusal) => return Err(refusal.into_status()),
                Ok(Outcome::LeaseGrant(granted)) => {
                    return Ok(Response::new(pb::LeaseGrantResponse {
                        header: Some(self.0.header(granted.revision)),
                        id: granted.id.0,
                        ttl: granted.ttl_seconds,
                        error: String::new(),
                    }));
                }
                Ok(_) => return Err(Status::internal("etcdserver: internal error")),
            }
        }
        Err(RequestError::LeaseExists.into_status())
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let command = Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(request.get_ref().id)] });
        let Outcome::LeaseRevoke(revoked) = self.0.propose_as(&credentials, command).await? else {
            return Err(Status::internal("etcdserver: internal error"));
        };
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(self.0.header(revoked.revision)) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.check_leader(request.metadata())?;
        let context = self.0.clone();
        let stopped = self.0.member.stopped().clone();
        let credentials = Arc::new(Credentials::of(&request));
        let answers = request.into_inner().then(move |request| {
            let (context, credentials) = (context.clone(), credentials.clone());
            async move {
                let id = request?.id;
                context.authorize_renewal(&credentials, LeaseId(id)).await?;
                // Taken before the lease is renewed, so that nobody sees a lease alive at a revision behind its end.
                let revision = context.member.keyspace().view().current_revision();
                let renewed = context.member.renew_lease(LeaseId(id)).await.map_err(IntoStatus::into_status)?;
                // A lease that does not exist is answered with TTL 0, not with an error.
                let ttl = renewed.unwrap_or(0);
                Ok(pb::LeaseKeepAliveResponse { header: Some(context.header(revision)), id, ttl })
            }
        });
        // A client keeps its stream for as long as it lives: a stopping server must end it.
        Ok(Response::new(Box::pin(answers.take_until(stopped.cancelled_owned()))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let id = LeaseId(request.id);
        self.0.authorize(&credentials, Demand::Known).await?;
        let life = self.0.member.lease_life(id).await.map_err(IntoStatus::into_status)?;
        let (view, caller) = self.0.view_as(&credentials, !request.keys).await?;
        if request.keys {
            permit_lease_sight(&*view, &caller, id)
                .map_err(IntoStatus::into_status)?
                .map_err(IntoStatus::into_status)?;
        }
        let mut response = pb::LeaseTimeToLiveResponse {
            header: Some(self.0.header(view.current_revision())),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(life) = life {
            response.ttl = life.left_seconds;
            response.granted_ttl = life.granted_seconds;
            if request.keys {
                response.keys = view.lease_keys(id).map_err(IntoStatus::into_status)?;
            }
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let (view, caller) = self.0.view_as(&Credentials::of(&request), false).await?;
        permit(&view, &caller, Demand::Known)?;
        let leases = view.leases().map_err(IntoStatus::into_status)?;
        if view.auth().is_enabled() && view.auth().permit_admin(&caller).is_err() {
            for lease in &leases {
                let permitted = permit_lease_sight(&*view, &caller, lease.id).map_err(IntoStatus::into_status)?;
                permitted.map_err(IntoStatus::into_status)?;
            }
        }
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.0.header(view.current_revision())),
            leases: leases.into_iter().map(|lease| pb::LeaseStatus { id: lease.id.0 }).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_ttl_is_one_and_a_half_election_timeouts_rounded_up() {
        assert_eq!(ttl_seconds_min(Duration::from_millis(400)), 1);
        assert_eq!(ttl_seconds_min(Duration::from_millis(1_000)), 2);
        assert!(random_id(0).0 > 0);
    }
}
