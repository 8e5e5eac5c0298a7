//! The Cluster service, and how members make their client URLs known.

use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use xebec_store_core::{Command, ReadView, Revision};
use xebec_store_disk::View;
use xebec_store_raft::{Member, MemberId};

use crate::{
    auth::{Credentials, Demand, permit},
    context::Context,
    status::{IntoStatus, unimplemented},
};

/// Prefix of the cluster records that hold what members say about themselves.
const RECORD_PREFIX: &str = "member/";

/// What a member says about itself (etcd `membership.Attributes`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    name: String,
    client_urls: Vec<String>,
}

fn record_name(id: MemberId) -> String {
    format!("{RECORD_PREFIX}{id:016x}")
}

/// The name and client URLs that a member has published.
pub(crate) fn published(view: &View, id: MemberId) -> Result<Option<(String, Vec<String>)>, Status> {
    let record = view.cluster_record(&record_name(id)).map_err(IntoStatus::into_status)?;
    let attributes: Option<Attributes> = record.and_then(|record| serde_json::from_slice(&record).ok());
    Ok(attributes.map(|known| (known.name, known.client_urls)))
}

/// Publishes this member's name and client URLs, as often as it takes.
pub(crate) async fn publish(member: Member, name: String, client_urls: Vec<String>) {
    let attributes = Attributes { name, client_urls };
    let Ok(value) = serde_json::to_vec(&attributes) else {
        return;
    };
    let stopped = member.stopped().clone();
    while !stopped.is_cancelled() {
        let known = match member.linearizable().await {
            Ok(()) => member.keyspace().view().cluster_record(&record_name(member.id())).ok().flatten(),
            Err(error) => {
                tracing::debug!(%error, "cannot publish this member yet");
                continue;
            }
        };
        if known.is_some_and(|known| known == value) {
            return;
        }
        let command = Command::SetClusterRecord { name: record_name(member.id()), value: Some(value.clone().into()) };
        if let Err(error) = member.propose(command).await {
            tracing::debug!(%error, "cannot publish this member yet");
        }
    }
}

pub(crate) struct ClusterService(pub Context);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let (view, caller) = self.0.view_as(&Credentials::of(&request), !request.get_ref().linearizable).await?;
        permit(&view, &caller, Demand::Known)?;
        let mut members = Vec::new();
        for (id, node, is_learner) in self.0.member.status().members {
            let record = view.cluster_record(&record_name(id)).map_err(IntoStatus::into_status)?;
            let attributes: Option<Attributes> = record.and_then(|record| serde_json::from_slice(&record).ok());
            // As in etcd, a member that has not started has no name.
            let (name, client_urls) = attributes.map(|known| (known.name, known.client_urls)).unwrap_or_default();
            members.push(pb::Member { id, name, peer_ur_ls: node.peer_urls, client_ur_ls: client_urls, is_learner });
        }
        Ok(Response::new(pb::MemberListResponse { header: Some(self.0.header(Revision(0))), members }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        Err(unimplemented("MemberAdd"))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        Err(unimplemented("MemberRemove"))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        Err(unimplemented("MemberUpdate"))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        Err(unimplemented("MemberPromote"))
    }
}
