//! Requests to this member's own services on behalf of a client.

use bytes::Bytes;
use tonic::{Code, Extensions, Request, Status, metadata::MetadataMap};
use xebec_proto::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
        ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare, kv_server::Kv, lease_server::Lease,
        request_op::Request as Op, response_op::Response as OpResponse,
    },
    mvccpb::KeyValue,
};

use crate::{context::Context, kv::KvService, lease::LeaseService};

/// Seconds that a lease lives which the server grants for a session (etcd `concurrency.defaultSessionTTL`).
const SESSION_TTL_SECONDS: i64 = 60;

/// A client, as the services below see it: its metadata (tokens, `hasleader`) and what its connection says of it.
#[derive(Clone)]
pub(super) struct Caller {
    pub context: Context,
    metadata: MetadataMap,
    extensions: Extensions,
}

/// etcd's recipes run on a client inside the server, whose errors lose their code on the way out: `Unknown`, with the
/// text kept.
pub(super) fn unknown(status: &Status) -> Status {
    Status::new(Code::Unknown, status.message())
}

impl Caller {
    /// Takes a request apart.
    pub fn of<T>(context: &Context, request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        (Self { context: context.clone(), metadata, extensions }, message)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }

    fn kv(&self) -> KvService {
        KvService(self.context.clone())
    }

    pub async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        Ok(self.kv().txn(self.request(txn)).await.map_err(|status| unknown(&status))?.into_inner())
    }

    pub async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        Ok(self.kv().range(self.request(range)).await.map_err(|status| unknown(&status))?.into_inner())
    }

    pub async fn delete(&self, key: Bytes) -> Result<Option<ResponseHeader>, Status> {
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let deleted = self.kv().delete_range(self.request(request)).await.map_err(|status| unknown(&status))?;
        Ok(deleted.into_inner().header)
    }

    /// The lease of a session: the client's own, or a new one if it named none.
    pub async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let request = LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 };
        let leases = LeaseService(self.context.clone());
        Ok(leases.lease_grant(self.request(request)).await.map_err(|status| unknown(&status))?.into_inner().id)
    }
}

/// "This key was created at this revision"; 0: it is not there.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(compare::TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

pub(super) fn put(key: &Bytes, value: &Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

pub(super) fn get(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(range)) }
}

pub(super) fn delete(key: &Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

/// The first key-value that an operation of a transaction has read.
pub(super) fn first_read(response: Option<&ResponseOp>) -> Option<&KeyValue> {
    match response.and_then(|response| response.response.as_ref()) {
        Some(OpResponse::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}
