//! The Cluster service (etcd `server/etcdserver/api/v3rpc/member.go`).

use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use xebec_store_core::Revision;
use xebec_store_raft::{MemberId, MemberInfo, MembershipChange, MembershipRefusal, are_peer_urls};

use crate::{
    auth::{Credentials, Demand, permit},
    context::Context,
    status::IntoStatus,
};

pub(crate) struct ClusterService(pub Context);

fn member(info: &MemberInfo) -> pb::Member {
    pb::Member {
        id: info.id,
        // As in etcd, a member that has not started has no name.
        name: info.name.clone(),
        peer_ur_ls: info.peer_urls.clone(),
        client_ur_ls: info.client_urls.clone(),
        is_learner: info.is_learner,
    }
}

impl ClusterService {
    fn members(&self) -> Vec<pb::Member> {
        self.0.member.roster().members().iter().map(member).collect()
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.0.header(Revision(0)))
    }

    /// Makes a change; the members are listed as they are then.
    async fn change(&self, change: MembershipChange) -> Result<MemberId, Status> {
        let outcome = self.0.member.change_membership(change).await.map_err(IntoStatus::into_status)?;
        outcome.map_err(IntoStatus::into_status)
    }
}

fn check_urls(urls: &[String]) -> Result<(), Status> {
    if are_peer_urls(urls) { Ok(()) } else { Err(MembershipRefusal::BadUrls.into_status()) }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let (view, caller) = self.0.who(&Credentials::of(&request), !request.get_ref().linearizable).await?;
        permit(&view, &caller, Demand::Known)?;
        Ok(Response::new(pb::MemberListResponse { header: self.header(), members: self.members() }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        let pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner } = request.into_inner();
        check_urls(&peer_urls)?;
        let id = self.change(MembershipChange::Add { peer_urls, is_learner }).await?;
        let members = self.members();
        let added = members.iter().find(|member| member.id == id).cloned();
        Ok(Response::new(pb::MemberAddResponse { header: self.header(), member: added, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        let id = request.get_ref().id;
        self.change(MembershipChange::Remove(id)).await?;
        // A member that removed itself is sent no entries any more, its own removal included.
        let members = self.members().into_iter().filter(|member| member.id != id).collect();
        Ok(Response::new(pb::MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        let pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls } = request.into_inner();
        check_urls(&peer_urls)?;
        self.change(MembershipChange::Update { id, peer_urls }).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: self.header(), members: self.members() }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.0.authorize(&Credentials::of(&request), Demand::Admin).await?;
        self.change(MembershipChange::Promote(request.get_ref().id)).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: self.header(), members: self.members() }))
    }
}
