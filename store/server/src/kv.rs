//! The KV service.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use prost::Message;
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb::{self as pb, kv_server::Kv};
use xebec_store_core::{Command, Response as Outcome, Revision, apply, validate};
use xebec_store_disk::CompactionStep;

use crate::{
    auth::{Credentials, Demand, permit},
    context::{Context, blocking},
    convert,
    range_read::{self, HeldReservation},
    status::{self, IntoStatus},
};

pub(crate) struct KvService(pub Context);

/// An outcome of another kind than the command asked for is a defect of the apply path.
fn mismatch() -> Status {
    tracing::error!("a command got another command's response");
    Status::internal("etcdserver: internal error")
}

#[tonic::async_trait]
impl Kv for KvService {
    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let serializable = request.serializable;
        if !serializable && self.0.member.is_learner() {
            return Err(status::not_for_learners());
        }
        let range = convert::range(request)?;
        validate::range(&range).map_err(IntoStatus::into_status)?;
        let (view, caller) = self.0.view_as(&credentials, serializable).await?;
        permit(&view, &caller, Demand::Read(&range.range))?;
        let (response, share) = range_read::read(&self.0, view, range).await?;
        self.0.metrics.ranges.inc();
        let header = self.0.header(response.revision);
        let mut response = Response::new(convert::range_response(Some(header), response));
        if let Some(share) = share {
            response.extensions_mut().insert(HeldReservation(Arc::new(share)));
        }
        Ok(response)
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let serializable = request.serializable;
        let range = convert::range(request)?;
        validate::range(&range).map_err(IntoStatus::into_status)?;
        range_read::check_streamable(&range)?;
        let (view, caller) = self.0.view_as(&credentials, serializable).await?;
        permit(&view, &caller, Demand::Read(&range.range))?;
        self.0.metrics.ranges.inc();
        Ok(Response::new(Box::pin(range_read::stream(self.0.clone(), view, range))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let put = convert::put(request);
        validate::put(&put).map_err(IntoStatus::into_status)?;
        self.0.check_size(bytes)?;
        self.0.check_quota(bytes).await?;
        let Outcome::Put(response) = self.0.propose_as(&credentials, Command::Put(put)).await? else {
            return Err(mismatch());
        };
        let header = self.0.header(response.revision);
        Ok(Response::new(convert::put_response(Some(header), response)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let delete = convert::delete_range(request);
        validate::delete_range(&delete).map_err(IntoStatus::into_status)?;
        self.0.check_size(bytes)?;
        self.0.check_room_to_delete(&delete.range).await?;
        let Outcome::DeleteRange(response) = self.0.propose_as(&credentials, Command::DeleteRange(delete)).await?
        else {
            return Err(mismatch());
        };
        let header = self.0.header(response.revision);
        Ok(Response::new(convert::delete_response(Some(header), response)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let bytes = request.encoded_len();
        convert::check_txn(&request, self.0.limits.txn_ops_max).map_err(IntoStatus::into_status)?;
        let serializable = convert::is_serializable(&request);
        let txn = convert::txn(request)?;
        validate::txn_overlaps(&txn).map_err(IntoStatus::into_status)?;
        let outcome = if txn.is_read_only() {
            let (view, caller) = self.0.view_as(&credentials, serializable).await?;
            blocking(move || {
                let applied = apply(&*view, &Command::Txn(txn).by(caller)).map_err(IntoStatus::into_status)?;
                applied.result.map_err(IntoStatus::into_status)
            })
            .await?
        } else {
            self.0.check_size(bytes)?;
            if txn.has_put() {
                self.0.check_quota(bytes).await?;
            }
            self.0.propose_as(&credentials, Command::Txn(txn)).await?
        };
        let Outcome::Txn(response) = outcome else {
            return Err(mismatch());
        };
        let header = self.0.header(response.revision);
        Ok(Response::new(convert::txn_response(Some(header), response)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let command = Command::Compact { revision: Revision(request.revision) };
        let Outcome::Compact(response) = self.0.propose_as(&credentials, command).await? else {
            return Err(mismatch());
        };
        if request.physical {
            let keyspace = self.0.member.keyspace().clone();
            blocking(move || {
                while keyspace.compact_step().map_err(IntoStatus::into_status)? != CompactionStep::Done {}
                keyspace.reclaim();
                Ok(())
            })
            .await?;
        }
        Ok(Response::new(pb::CompactionResponse { header: Some(self.0.header(response.revision)) }))
    }
}
