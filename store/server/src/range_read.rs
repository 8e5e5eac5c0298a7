//! Reads of ranges within the budget of response bytes: at once for Range, in chunks for RangeStream.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, stream};
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_store_core::{
    KeyRange, KeyValue, LeaseId, Range, RangeResponse, ReadView, RequestError, Revision, SortOrder, SortTarget,
    evaluate_range, evaluate_range_within,
};
use xebec_store_disk::View;

use crate::{
    context::{Context, blocking},
    convert,
    response_budget::{Reservation, ResponseBudget},
    status::IntoStatus,
};

/// Bytes reserved for a range before it is known how large it is.
const FIRST_RESERVATION_BYTES: usize = 128 << 10;
/// A reservation grows at least by this many bytes.
const RESERVATION_STEP_BYTES: usize = 1 << 20;
/// One key's response below this size is not counted: there are too many of them, and they are too short.
const SMALL_RESPONSE_BYTES: usize = 64 << 10;
/// Keys in the first chunk of a RangeStream; chunks double from there (etcd `initialStreamChunkLimit`).
const CHUNK_KEYS_FIRST: i64 = 10;
/// How long a stream holds one view of the keyspace, and with it superseded data on disk. After that it goes on at its
/// revision in a newer view.
const VIEW_HELD_MAX: Duration = Duration::from_secs(10);

/// A response and its share of the budget. The share has to live until the response is sent.
pub(crate) type Budgeted = (RangeResponse, Option<Reservation>);

/// What a share of the budget travels in, among a response's extensions.
#[derive(Clone)]
pub(crate) struct HeldReservation(#[expect(dead_code, reason = "held, not looked at")] pub Arc<Reservation>);

/// Reads a range. One key is read in place, more where it may take its time.
pub(crate) async fn read(context: &Context, view: Arc<View>, range: Range) -> Result<Budgeted, Status> {
    let deadline = ResponseBudget::deadline();
    if matches!(range.range, KeyRange::Key(_)) {
        let response = evaluate_range(&*view, &range).map_err(IntoStatus::into_status)?;
        let response = response.map_err(IntoStatus::into_status)?;
        let bytes = weight_bytes(&response.kvs);
        let share = match bytes > SMALL_RESPONSE_BYTES {
            true => Some(context.responses.reserve(bytes, deadline).await?),
            false => None,
        };
        return Ok((response, share));
    }
    let mut bytes = FIRST_RESERVATION_BYTES;
    loop {
        let share = context.responses.reserve(bytes, deadline).await?;
        let (view, range) = (view.clone(), range.clone());
        // Nobody who has a turn waits for the budget, so turns always come round.
        let turn = context.range_turns.clone().acquire_owned().await;
        let turn = turn.expect("the turns are never closed");
        let read = move || {
            let read = read_within(&view, &range, share);
            drop(turn);
            read
        };
        match blocking(read).await? {
            Ok((response, share)) => return Ok((response, Some(share))),
            // All there is may do, if twice as much is more than that.
            Err(bytes_seen) => bytes = bytes_seen.saturating_mul(2).min(context.responses.bytes_max()).max(bytes_seen),
        }
    }
}

/// Reads a range as far as its share reaches or grows; otherwise answers how many bytes it saw.
fn read_within(
    view: &View,
    range: &Range,
    mut share: Reservation,
) -> Result<Result<(RangeResponse, Reservation), usize>, Status> {
    let mut bytes = 0;
    let mut covered = FIRST_RESERVATION_BYTES;
    let mut charge = |kv: &KeyValue| {
        bytes += kv.weight_bytes();
        if bytes > covered {
            covered = bytes + RESERVATION_STEP_BYTES;
            if !share.try_cover(covered) && !share.try_cover(bytes) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let read = evaluate_range_within(view, range, &mut charge).map_err(IntoStatus::into_status)?;
    let Some(response) = read else {
        return Ok(Err(bytes));
    };
    let response = response.map_err(IntoStatus::into_status)?;
    share.shrink_to(weight_bytes(&response.kvs));
    Ok(Ok((response, share)))
}

fn weight_bytes(kvs: &[KeyValue]) -> usize {
    kvs.iter().map(KeyValue::weight_bytes).sum()
}

/// Refuses what cannot be streamed (etcd `checkRangeStreamRequest`).
pub(crate) fn check_streamable(range: &Range) -> Result<(), Status> {
    // etcd takes any target without an order for the default, and ascending keys too (`txn.IsDefaultOrdering`).
    let sorted = range.sort_order != SortOrder::None
        && !(range.sort_order == SortOrder::Ascend && range.sort_target == SortTarget::Key)
        || range.sort_target != SortTarget::Key;
    if sorted {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    let filters =
        [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
    if filters.iter().any(|revision| revision.0 != 0) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    Ok(())
}

/// A RangeStream under way (etcd `EtcdServer.rangeStream`).
struct Streaming {
    context: Context,
    view: Arc<View>,
    view_since: Instant,
    /// What is still to be read, at a revision that stays.
    rest: Range,
    /// The store's revision when the request came: the header's.
    revision: Revision,
    keys_left: i64,
    chunk_keys: i64,
    sent: i64,
    is_done: bool,
    /// The share of the chunk that is being sent.
    share: Option<Reservation>,
}

/// One chunk as it was read.
struct Chunk {
    kvs: Vec<KeyValue>,
    more: bool,
    /// Keys behind the last chunk, if the limit ended the stream.
    uncounted: u64,
}

/// Streams a range in growing chunks at one revision, reading each when the one before was taken.
pub(crate) fn stream(
    context: Context,
    view: Arc<View>,
    range: Range,
) -> impl Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send + use<> {
    let revision = view.current_revision();
    let at = if range.revision.0 <= 0 { revision } else { range.revision };
    let keys_left = if range.limit > 0 { range.limit } else { i64::MAX };
    let streaming = Streaming {
        context,
        view,
        view_since: Instant::now(),
        rest: Range { revision: at, ..range },
        revision,
        keys_left,
        chunk_keys: CHUNK_KEYS_FIRST,
        sent: 0,
        is_done: false,
        share: None,
    };
    stream::unfold(streaming, |mut streaming| async move {
        if streaming.is_done {
            return None;
        }
        let response = streaming.next().await;
        streaming.is_done |= response.is_err();
        let response = response.map(|response| pb::RangeStreamResponse { range_response: Some(response) });
        Some((response, streaming))
    })
}

impl Streaming {
    async fn next(&mut self) -> Result<pb::RangeResponse, Status> {
        self.share = None;
        if self.view_since.elapsed() > VIEW_HELD_MAX {
            self.view = self.context.member.keyspace().view();
            self.view_since = Instant::now();
        }
        readable(&self.view, self.rest.revision)?;
        if self.rest.count_only {
            let (view, range) = (self.view.clone(), self.rest.clone());
            let count = blocking(move || view.count(&range.range, range.revision).map_err(IntoStatus::into_status));
            self.is_done = true;
            self.sent = signed(count.await?);
            return Ok(self.last(Vec::new(), false, 0));
        }
        let bytes_max = self.context.limits.request_bytes_max;
        // A chunk ends with the key that exceeds the bound, and no key-value is larger than a request.
        let mut share = self.context.responses.reserve(bytes_max * 2, ResponseBudget::deadline()).await?;
        let (view, range) = (self.view.clone(), self.rest.clone());
        let (keys, keys_left) = (self.chunk_keys.min(self.keys_left), self.keys_left);
        let chunk = blocking(move || read_chunk(&view, &range, keys, keys_left, bytes_max)).await?;
        let bytes = weight_bytes(&chunk.kvs);
        share.shrink_to(bytes);
        self.share = Some(share);
        self.sent += chunk.kvs.len() as i64;
        self.keys_left -= chunk.kvs.len() as i64;
        if !chunk.more || self.keys_left <= 0 {
            self.is_done = true;
            return Ok(self.last(chunk.kvs, chunk.more, chunk.uncounted));
        }
        if let Some(last) = chunk.kvs.last() {
            self.rest.range = after(&self.rest.range, &last.key);
        }
        self.chunk_keys = next_chunk_keys(self.chunk_keys, bytes, bytes_max);
        let kvs = chunk.kvs.into_iter().map(convert::key_value).collect();
        Ok(pb::RangeResponse { kvs, ..pb::RangeResponse::default() })
    }

    fn last(&self, kvs: Vec<KeyValue>, more: bool, uncounted: u64) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(self.context.header(self.revision)),
            kvs: kvs.into_iter().map(convert::key_value).collect(),
            more,
            count: self.sent + signed(uncounted),
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn readable(view: &View, at: Revision) -> Result<(), Status> {
    if at > view.current_revision() {
        Err(RequestError::FutureRevision.into_status())
    } else if at < view.compacted_revision() {
        Err(RequestError::Compacted.into_status())
    } else {
        Ok(())
    }
}

/// Reads at most `keys` keys, fewer if they exceed `bytes_max`.
fn read_chunk(view: &View, range: &Range, keys: i64, keys_left: i64, bytes_max: usize) -> Result<Chunk, Status> {
    let mut chunk = Chunk { kvs: Vec::new(), more: false, uncounted: 0 };
    let keys = usize::try_from(keys).unwrap_or(usize::MAX);
    let mut bytes = 0;
    let mut visit = |mut kv: KeyValue| {
        if chunk.kvs.len() >= keys || bytes >= bytes_max {
            chunk.more = true;
            return ControlFlow::Break(());
        }
        if range.keys_only {
            // As Range does: etcd answers from its index, which knows neither.
            (kv.value, kv.lease) = (Bytes::new(), LeaseId::NONE);
        }
        bytes += kv.weight_bytes();
        chunk.kvs.push(kv);
        ControlFlow::Continue(())
    };
    view.scan(&range.range, range.revision, &mut visit).map_err(IntoStatus::into_status)?;
    if chunk.more
        && chunk.kvs.len() as i64 >= keys_left
        && let Some(last) = chunk.kvs.last()
    {
        let behind = after(&range.range, &last.key);
        chunk.uncounted = view.count(&behind, range.revision).map_err(IntoStatus::into_status)?;
    }
    Ok(chunk)
}

/// Doubles towards the bound, halves above it, never below one (etcd `adjustChunkLimit`).
fn next_chunk_keys(keys: i64, bytes: usize, bytes_max: usize) -> i64 {
    if bytes < bytes_max / 2 {
        keys.saturating_mul(2)
    } else if bytes > bytes_max * 2 {
        (keys / 2).max(1)
    } else {
        keys
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
        // Behind one key there is nothing of it.
        KeyRange::Key(_) => KeyRange::Span { end: start.clone(), start },
        KeyRange::From(_) => KeyRange::From(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_range_begins_right_behind_the_key() {
        let span = KeyRange::Span { start: Bytes::from_static(b"a"), end: Bytes::from_static(b"z") };
        let rest = after(&span, &Bytes::from_static(b"k"));
        assert_eq!(rest, KeyRange::Span { start: Bytes::from_static(b"k\0"), end: Bytes::from_static(b"z") });
        assert!(after(&KeyRange::Key(Bytes::from_static(b"k")), &Bytes::from_static(b"k")).is_empty());
    }

    #[test]
    fn chunks_double_towards_the_bound_and_halve_above_it() {
        assert_eq!(next_chunk_keys(10, 100, 1_000), 20);
        assert_eq!(next_chunk_keys(20, 500, 1_000), 20);
        assert_eq!(next_chunk_keys(20, 2_001, 1_000), 10);
        assert_eq!(next_chunk_keys(1, 5_000, 1_000), 1);
    }
}
