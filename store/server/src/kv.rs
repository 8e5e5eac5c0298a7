//! The KV service.

use std::{ops::ControlFlow, pin::Pin, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb::{self as pb, kv_server::Kv};
use xebec_store_core::{
    Command, KeyRange, Range, RangeResponse, ReadView, Response as Outcome, Revision, SortOrder, SortTarget, apply,
    evaluate_range, validate,
};
use xebec_store_disk::{CompactionStep, View};

use crate::{
    auth::{Credentials, Demand, permit},
    context::{Context, blocking},
    convert,
    status::{self, IntoStatus, unimplemented},
};

/// Keys in the first chunk of a RangeStream; chunks double from there (as etcd's).
const STREAM_CHUNK_KEYS_FIRST: i64 = 10;
/// Keys in the largest chunk.
const STREAM_CHUNK_KEYS_MAX: i64 = 10_000;
/// Chunks read ahead of a slow client.
const STREAM_CHUNKS_AHEAD_MAX: usize = 2;

pub(crate) struct KvService(pub Context);

/// An outcome of another kind than the command asked for is a defect of the apply path.
fn mismatch() -> Status {
    tracing::error!("a command got another command's response");
    Status::internal("etcdserver: internal error")
}

fn evaluate(view: &View, range: &Range) -> Result<RangeResponse, Status> {
    evaluate_range(view, range).map_err(IntoStatus::into_status)?.map_err(IntoStatus::into_status)
}

/// One key is read in place, a range where it may take its time.
async fn read(view: Arc<View>, range: Range) -> Result<RangeResponse, Status> {
    if matches!(range.range, KeyRange::Key(_)) {
        return evaluate(&view, &range);
    }
    blocking(move || evaluate(&view, &range)).await
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
        let response = read(view, range).await?;
        let header = self.0.header(response.revision);
        Ok(Response::new(convert::range_response(Some(header), response)))
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
        let filters =
            [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
        let sorted = range.sort_target != SortTarget::Key || range.sort_order == SortOrder::Descend;
        if sorted || filters.iter().any(|revision| revision.0 != 0) {
            return Err(unimplemented("RangeStream with sort or revision filters"));
        }
        let (view, caller) = self.0.view_as(&credentials, serializable).await?;
        permit(&view, &caller, Demand::Read(&range.range))?;
        let (tx, rx) = mpsc::channel(STREAM_CHUNKS_AHEAD_MAX);
        let context = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let mut send = |response| match tx.blocking_send(response) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            if let Err(status) = stream_range(&context, &view, range, &mut send)
                && send(Err(status)).is_break()
            {
                tracing::debug!("a client left a range stream");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.0.check_leader(request.metadata())?;
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let put = convert::put(request);
        validate::put(&put).map_err(IntoStatus::into_status)?;
        self.0.check_size(bytes)?;
        self.0.check_quota().await?;
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
                self.0.check_quota().await?;
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

type SendChunk<'a> = dyn FnMut(Result<pb::RangeStreamResponse, Status>) -> ControlFlow<()> + 'a;

/// Reads a range in growing chunks at one revision. Only the last chunk has header, more and count.
fn stream_range(context: &Context, view: &View, range: Range, send: &mut SendChunk<'_>) -> Result<(), Status> {
    let whole = Range { limit: 0, count_only: true, ..range.clone() };
    let totals = evaluate(view, &whole)?;
    let at = if range.revision.0 <= 0 { view.current_revision() } else { range.revision };
    let mut left = if range.limit > 0 { range.limit } else { i64::MAX };
    let mut chunk_keys = STREAM_CHUNK_KEYS_FIRST;
    let mut rest = range.range.clone();
    let chunk = |response| pb::RangeStreamResponse { range_response: Some(response) };
    loop {
        let part = Range { range: rest.clone(), revision: at, limit: chunk_keys.min(left), ..range.clone() };
        let read = evaluate(view, &part)?;
        left -= read.kvs.len() as i64;
        let last_key = read.kvs.last().map(|kv| kv.key.clone());
        let ends = range.count_only || !read.more || left <= 0;
        let bytes: usize = read.kvs.iter().map(xebec_store_core::KeyValue::weight_bytes).sum();
        let more = read.more;
        let mut response = convert::range_response(None, read);
        (response.more, response.count) = (false, 0);
        if ends {
            response.header = Some(context.header(totals.revision));
            response.more = more;
            response.count = totals.count;
        }
        if send(Ok(chunk(response))).is_break() || ends {
            return Ok(());
        }
        if let Some(key) = last_key {
            rest = after(&range.range, &key);
        }
        if bytes < context.limits.request_bytes_max / 2 {
            chunk_keys = (chunk_keys * 2).min(STREAM_CHUNK_KEYS_MAX);
        }
    }
}

/// What remains of a range behind `key`.
fn after(range: &KeyRange, key: &Bytes) -> KeyRange {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    let start = next.freeze();
    match range {
        KeyRange::Span { end, .. } => KeyRange::Span { start, end: end.clone() },
        KeyRange::Key(_) | KeyRange::From(_) => KeyRange::From(start),
    }
}

#[cfg(test)]
mod tests {
    use xebec_store_core::RequestError;

    use super::*;

    #[test]
    fn the_rest_of_a_range_begins_right_behind_the_key() {
        let span = KeyRange::Span { start: Bytes::from_static(b"a"), end: Bytes::from_static(b"z") };
        let rest = after(&span, &Bytes::from_static(b"k"));
        assert_eq!(rest, KeyRange::Span { start: Bytes::from_static(b"k\0"), end: Bytes::from_static(b"z") });
        assert_eq!(RequestError::Compacted.into_status().code(), tonic::Code::OutOfRange);
    }
}
