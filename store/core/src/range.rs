//! Evaluation of a Range, the same for a read on its own and for one inside a transaction
//! (etcd `server/etcdserver/txn/range.go`).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    KeyValue, LeaseId, Range, RangeResponse, ReadView, RequestError, Revision, SortOrder, SortTarget, ViewError,
};

/// Evaluates a Range over a view. The outer error is the view's, the inner one is the request's.
pub fn evaluate_range(view: &dyn ReadView, range: &Range) -> Result<Result<RangeResponse, RequestError>, ViewError> {
    let unlimited = evaluate_range_within(view, range, &mut |_| ControlFlow::Continue(()))?;
    // Nothing broke off, so there is an answer.
    Ok(unlimited.unwrap_or(Ok(RangeResponse::default())))
}

/// Evaluates a Range, asking `charge` before each key-value is kept. `None`: `charge` broke off, and what had been read
/// is gone.
///
/// # Errors
/// As [`evaluate_range`].
pub fn evaluate_range_within(
    view: &dyn ReadView,
    range: &Range,
    charge: &mut dyn FnMut(&KeyValue) -> ControlFlow<()>,
) -> Result<Option<Result<RangeResponse, RequestError>>, ViewError> {
    let at = match readable_revision(view, range.revision) {
        Ok(at) => at,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    let mut response = RangeResponse { revision: view.current_revision(), ..RangeResponse::default() };
    if range.count_only {
        response.count = signed(view.count(&range.range, at)?);
        return Ok(Some(Ok(response)));
    }
    let limit = usize::try_from(range.limit).unwrap_or(0);
    // One more than the limit is read, to know whether there is more.
    let read_limit = if limit == 0 || needs_everything(range) { usize::MAX } else { limit.saturating_add(1) };
    let mut seen = 0u64;
    let mut too_much = false;
    view.scan(&range.range, at, &mut |mut kv| {
        seen += 1;
        if passes_filters(range, &kv) {
            if range.keys_only && range.sort_target != SortTarget::Value {
                // Not kept until the end, when all of them would be here.
                kv.value = Bytes::new();
            }
            if charge(&kv).is_break() {
                too_much = true;
                return ControlFlow::Break(());
            }
            response.kvs.push(kv);
        }
        if response.kvs.len() >= read_limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if too_much {
        return Ok(None);
    }
    // The count ignores limit and filters; where the scan stopped early it has to be taken separately.
    let stopped_early = response.kvs.len() >= read_limit;
    response.count = signed(if stopped_early { view.count(&range.range, at)? } else { seen });
    sort(range, &mut response.kvs);
    if limit > 0 && response.kvs.len() > limit {
        response.kvs.truncate(limit);
        response.more = true;
    }
    if range.keys_only {
        // etcd 3.7 answers from its index, which knows no leases, unless it needs the values for sorting.
        let from_index = range.sort_target != SortTarget::Value;
        for kv in &mut response.kvs {
            kv.value = Bytes::new();
            if from_index {
                kv.lease = LeaseId::NONE;
            }
        }
    }
    Ok(Some(Ok(response)))
}

/// The revision that a request means, if it can be read: 0 and below is the present.
pub(crate) fn readable_revision(view: &dyn ReadView, revision: Revision) -> Result<Revision, RequestError> {
    if revision.0 <= 0 {
        Ok(view.current_revision())
    } else if revision > view.current_revision() {
        Err(RequestError::FutureRevision)
    } else if revision < view.compacted_revision() {
        Err(RequestError::Compacted)
    } else {
        Ok(revision)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether the limit can only be applied after sorting or filtering. With order NONE and a target other than the key,
/// etcd limits first and sorts then.
fn needs_everything(range: &Range) -> bool {
    let sorted_by_store = range.sort_order == SortOrder::None
        || (range.sort_target == SortTarget::Key && range.sort_order == SortOrder::Ascend);
    !sorted_by_store
        || range.min_mod_revision.0 != 0
        || range.max_mod_revision.0 != 0
        || range.min_create_revision.0 != 0
        || range.max_create_revision.0 != 0
}

fn passes_filters(range: &Range, kv: &KeyValue) -> bool {
    let within = |revision: Revision, min: Revision, max: Revision| {
        (min.0 == 0 || revision >= min) && (max.0 == 0 || revision <= max)
    };
    within(kv.mod_revision, range.min_mod_revision, range.max_mod_revision)
        && within(kv.create_revision, range.min_create_revision, range.max_create_revision)
}

fn sort(range: &Range, kvs: &mut [KeyValue]) {
    let by = |a: &KeyValue, b: &KeyValue| -> Ordering {
        match range.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match (range.sort_target, range.sort_order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
        (_, SortOrder::None | SortOrder::Ascend) => kvs.sort_by(by),
        (SortTarget::Key, SortOrder::Descend) => kvs.reverse(),
        (_, SortOrder::Descend) => kvs.sort_by(|a, b| by(b, a)),
    }
}
