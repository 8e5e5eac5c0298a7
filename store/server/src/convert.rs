//! etcd's messages to the store's commands, and outcomes back.

use bytes::{Bytes, BytesMut};
use tonic::Status;
use xebec_planted::{PlantedBug, is_planted};
use xebec_proto::{
    etcdserverpb::{
        self as pb, compare::TargetUnion, range_request, request_op::Request as PbRequest,
        response_op::Response as PbResponse,
    },
    mvccpb,
};
use xebec_store_core::{
    Compare, CompareOperator, CompareTarget, DeleteRange, DeleteRangeResponse, Event, EventKind, KeyRange, KeyValue,
    LeaseId, Op, OpResponse, Put, PutResponse, Range, RangeResponse, RequestError, Revision, SortOrder, SortTarget,
    Txn, TxnResponse,
};

use crate::status::IntoStatus;

pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    check_range(&request).map_err(IntoStatus::into_status)?;
    let invalid = |_| RequestError::InvalidSortOption.into_status();
    let sort_order = match range_request::SortOrder::try_from(request.sort_order).map_err(invalid)? {
        range_request::SortOrder::None => SortOrder::None,
        range_request::SortOrder::Ascend => SortOrder::Ascend,
        range_request::SortOrder::Descend => SortOrder::Descend,
    };
    let sort_target = match range_request::SortTarget::try_from(request.sort_target).map_err(invalid)? {
        range_request::SortTarget::Key => SortTarget::Key,
        range_request::SortTarget::Version => SortTarget::Version,
        range_request::SortTarget::Create => SortTarget::Create,
        range_request::SortTarget::Mod => SortTarget::Mod,
        range_request::SortTarget::Value => SortTarget::Value,
    };
    Ok(Range {
        range: KeyRange::from_wire(request.key, request.range_end),
        limit: request.limit,
        revision: Revision(request.revision),
        sort_order,
        sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: Revision(request.min_mod_revision),
        max_mod_revision: Revision(request.max_mod_revision),
        min_create_revision: Revision(request.min_create_revision),
        max_create_revision: Revision(request.max_create_revision),
    })
}

/// Copies a key and its value out of the message they came in. What is written lives on in the log's cache and the event log,
/// and would hold on to the whole receive buffer (8 KiB for a request of 300 bytes).
fn detached(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    let mut both = BytesMut::with_capacity(key.len() + value.len());
    both.extend_from_slice(key);
    let key = both.split().freeze();
    both.extend_from_slice(value);
    (key, both.freeze())
}

pub(crate) fn put(request: pb::PutRequest) -> Put {
    let (key, value) = detached(&request.key, &request.value);
    Put {
        key,
        value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { range: KeyRange::from_wire(request.key, request.range_end), prev_kv: request.prev_kv }
}

/// Checks a Txn in etcd's order (`v3rpc/key.go`, `checkTxnRequest`), so that of several faults the same one is named: how
/// many operations, then the compares, then the operations one by one.
pub(crate) fn check_txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let ops_left = ops_max.checked_sub(ops).ok_or(RequestError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        None => Err(RequestError::KeyNotFound),
        Some(PbRequest::RequestRange(request)) => check_range(request),
        Some(PbRequest::RequestPut(request)) => check_put(request),
        Some(PbRequest::RequestDeleteRange(request)) if request.key.is_empty() => Err(RequestError::EmptyKey),
        Some(PbRequest::RequestDeleteRange(_)) => Ok(()),
        Some(PbRequest::RequestTxn(request)) => check_txn(request, ops_left),
    })
}

fn check_range(request: &pb::RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    let is_known = range_request::SortOrder::is_valid(request.sort_order)
        && range_request::SortTarget::is_valid(request.sort_target);
    if is_known { Ok(()) } else { Err(RequestError::InvalidSortOption) }
}

fn check_put(request: &pb::PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        Err(RequestError::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(RequestError::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(RequestError::LeaseProvided)
    } else {
        Ok(())
    }
}

pub(crate) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    let mut compares: Vec<Compare> = request.compare.into_iter().map(compare).collect();
    if is_planted(PlantedBug::IgnoreFence) {
        compares.retain(|compare| !matches!(compare.target, CompareTarget::Create(_)));
    }
    Ok(Txn {
        compares,
        success: request.success.into_iter().map(op).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

fn op(request: pb::RequestOp) -> Result<Op, Status> {
    match request.request {
        None => Err(RequestError::KeyNotFound.into_status()),
        Some(PbRequest::RequestRange(request)) => Ok(Op::Range(range(request)?)),
        Some(PbRequest::RequestPut(request)) => Ok(Op::Put(put(request))),
        Some(PbRequest::RequestDeleteRange(request)) => Ok(Op::DeleteRange(delete_range(request))),
        Some(PbRequest::RequestTxn(request)) => Ok(Op::Txn(txn(request)?)),
    }
}

fn compare(request: pb::Compare) -> Compare {
    let range = KeyRange::from_wire(request.key, request.range_end);
    let target = pb::compare::CompareTarget::try_from(request.target);
    let Ok(result) = pb::compare::CompareResult::try_from(request.result) else {
        // etcd (`txn.compareKV`) lets an unknown relation hold; but a value is never compared with a missing key.
        let least = if target == Ok(pb::compare::CompareTarget::Value) { 0 } else { -1 };
        return Compare { range, operator: CompareOperator::Greater, target: CompareTarget::Version(least) };
    };
    let operator = match result {
        pb::compare::CompareResult::Equal => CompareOperator::Equal,
        pb::compare::CompareResult::Greater => CompareOperator::Greater,
        pb::compare::CompareResult::Less => CompareOperator::Less,
        pb::compare::CompareResult::NotEqual => CompareOperator::NotEqual,
    };
    let Ok(target) = target else {
        // And an unknown target is equal to everything.
        let least = if result == pb::compare::CompareResult::Equal { -1 } else { i64::MAX };
        return Compare { range, operator: CompareOperator::Greater, target: CompareTarget::Version(least) };
    };
    // etcd reads the operand of the named target and takes an absent one for zero.
    let operand = request.target_union;
    let target = match target {
        pb::compare::CompareTarget::Version => CompareTarget::Version(match operand {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        pb::compare::CompareTarget::Create => CompareTarget::Create(Revision(match operand {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        })),
        pb::compare::CompareTarget::Mod => CompareTarget::Mod(Revision(match operand {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        })),
        pb::compare::CompareTarget::Value => CompareTarget::Value(match operand {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        pb::compare::CompareTarget::Lease => CompareTarget::Lease(LeaseId(match operand {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        })),
    };
    Compare { range, operator, target }
}

/// Whether a transaction reads without asking for the newest state (etcd `txn.IsTxnSerializable`).
pub(crate) fn is_serializable(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(PbRequest::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

pub(crate) fn event(event: Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event { r#type: kind.into(), kv: Some(key_value(event.kv)), prev_kv: event.prev_kv.map(key_value) }
}

pub(crate) fn range_response(header: Option<pb::ResponseHeader>, response: RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(crate) fn put_response(header: Option<pb::ResponseHeader>, response: PutResponse) -> pb::PutResponse {
    pb::PutResponse { header, prev_kv: response.prev_kv.map(key_value) }
}

pub(crate) fn delete_response(
    header: Option<pb::ResponseHeader>,
    response: DeleteRangeResponse,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header,
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

pub(crate) fn txn_response(header: Option<pb::ResponseHeader>, response: TxnResponse) -> pb::TxnResponse {
    pb::TxnResponse {
        header,
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(op_response).collect(),
    }
}

/// Operations of a transaction carry the revision only, nested transactions an empty header.
fn op_response(response: OpResponse) -> pb::ResponseOp {
    let header = |revision: Revision| Some(pb::ResponseHeader { revision: revision.0, ..Default::default() });
    let response = match response {
        OpResponse::Range(response) => PbResponse::ResponseRange(range_response(header(response.revision), response)),
        OpResponse::Put(response) => PbResponse::ResponsePut(put_response(header(response.revision), response)),
        OpResponse::DeleteRange(response) => {
            PbResponse::ResponseDeleteRange(delete_response(header(response.revision), response))
        }
        OpResponse::Txn(response) => {
            PbResponse::ResponseTxn(txn_response(Some(pb::ResponseHeader::default()), response))
        }
    };
    pb::ResponseOp { response: Some(response) }
}
