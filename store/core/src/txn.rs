//! The operations that change keys, over an overlay of what the command has written so far.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::{
    Compare, CompareOperator, CompareTarget, DeleteRange, DeleteRangeResponse, Event, KeyRange, KeyValue, LeaseId, Op,
    OpResponse, Overlay, Put, PutResponse, ReadView, RequestError, Revision, Txn, TxnResponse, ViewError, Write,
    evaluate_range,
};

/// Outcome of an operation: the outer error is the view's, the inner one refuses the whole command.
pub(crate) type Evaluated<T> = Result<Result<T, RequestError>, ViewError>;

/// Unwraps the inner result of an [`Evaluated`], handing a refusal to the caller.
macro_rules! accepted {
    ($evaluated:expr) => {
        match $evaluated? {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}
pub(crate) use accepted;

/// A command being evaluated. All its writes of keys carry one revision, with a sub-revision each.
pub(crate) struct Evaluation<'v> {
    before: &'v dyn ReadView,
    overlay: Overlay<'v>,
    revision: Revision,
    next_sub: u32,
    pub(crate) writes: Vec<Write>,
    pub(crate) events: Vec<Event>,
}

impl<'v> Evaluation<'v> {
    pub(crate) fn new(before: &'v dyn ReadView) -> Evaluation<'v> {
        Evaluation {
            before,
            overlay: Overlay::new(before),
            revision: before.current_revision().next(),
            next_sub: 0,
            writes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The state before the command.
    pub(crate) fn before(&self) -> &'v dyn ReadView {
        self.before
    }

    /// The state as the command has made it so far.
    pub(crate) fn now(&self) -> &Overlay<'v> {
        &self.overlay
    }

    pub(crate) fn record(&mut self, write: Write) {
        self.overlay.absorb(&write);
        self.events.extend(write.event());
        self.writes.push(write);
    }

    /// A deletion whose event tells of the version before the command, as etcd reads it, even if the command itself
    /// has put the key meanwhile.
    fn record_delete(&mut self, prev: KeyValue) -> Result<(), ViewError> {
        let was_put_here = prev.mod_revision == self.revision;
        let key = prev.key.clone();
        let sub = self.take_sub();
        self.record(Write::Delete { revision: self.revision, sub, prev });
        if was_put_here {
            let before = self.before.get(&key, self.before.current_revision())?;
            if let Some(event) = self.events.last_mut() {
                event.prev_kv = before;
            }
        }
        Ok(())
    }

    fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, ViewError> {
        self.overlay.get(key, self.overlay.current_revision())
    }

    fn take_sub(&mut self) -> u32 {
        let sub = self.next_sub;
        self.next_sub += 1;
        sub
    }

    /// A put that is a command of its own. There etcd looks for the lease first (`txn.Put`), in a transaction for the
    /// key (`txn.checkPut`).
    pub(crate) fn put_alone(&mut self, put: &Put) -> Evaluated<PutResponse> {
        if !put.lease.is_none() && self.overlay.lease(put.lease)?.is_none() {
            return Ok(Err(RequestError::LeaseNotFound));
        }
        self.put(put)
    }

    pub(crate) fn put(&mut self, put: &Put) -> Evaluated<PutResponse> {
        let prev = self.current(&put.key)?;
        if (put.ignore_value || put.ignore_lease) && prev.is_none() {
            return Ok(Err(RequestError::KeyNotFound));
        }
        if !put.lease.is_none() && self.overlay.lease(put.lease)?.is_none() {
            return Ok(Err(RequestError::LeaseNotFound));
        }
        // Validation refuses such transactions before they are proposed; should one come through, every member
        // refuses it here alike, since a key has at most one version per revision. (It may be deleted before or after.)
        if self.overlay.is_put_at(&put.key, self.revision) {
            return Ok(Err(RequestError::DuplicateKey));
        }
        let kept = prev.as_ref();
        let kv = KeyValue {
            key: put.key.clone(),
            value: kept.filter(|_| put.ignore_value).map_or_else(|| put.value.clone(), |prev| prev.value.clone()),
            create_revision: kept.map_or(self.revision, |prev| prev.create_revision),
            mod_revision: self.revision,
            version: kept.map_or(1, |prev| prev.version + 1),
            lease: kept.filter(|_| put.ignore_lease).map_or(put.lease, |prev| prev.lease),
        };
        let answered = if put.prev_kv { prev.clone() } else { None };
        let sub = self.take_sub();
        self.record(Write::Put { sub, kv, prev });
        Ok(Ok(PutResponse { revision: self.revision, prev_kv: answered }))
    }

    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Evaluated<DeleteRangeResponse> {
        let mut found = Vec::new();
        self.overlay.scan(&delete.range, self.overlay.current_revision(), &mut |kv| {
            found.push(kv);
            ControlFlow::Continue(())
        })?;
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        for prev in &found {
            self.record_delete(prev.clone())?;
        }
        let prev_kvs = if delete.prev_kv { found } else { Vec::new() };
        Ok(Ok(DeleteRangeResponse { revision: self.overlay.current_revision(), deleted, prev_kvs }))
    }

    /// Deletes what hangs on a lease, in key order, so that all members number the changes alike.
    pub(crate) fn delete_keys_of(&mut self, lease: LeaseId) -> Result<(), ViewError> {
        for key in self.overlay.lease_keys(lease)? {
            if let Some(prev) = self.current(&key)? {
                self.record_delete(prev)?;
            }
        }
        Ok(())
    }

    pub(crate) fn txn(&mut self, txn: &Txn) -> Evaluated<TxnResponse> {
        let mut response = accepted!(self.txn_level(txn));
        response.revision = self.overlay.current_revision();
        Ok(Ok(response))
    }

    fn txn_level(&mut self, txn: &Txn) -> Evaluated<TxnResponse> {
        let mut succeeded = true;
        for compare in &txn.compares {
            succeeded = succeeded && holds(self.before, compare)?;
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(accepted!(self.op(op)));
        }
        // etcd leaves the header of a nested response empty.
        Ok(Ok(TxnResponse { revision: Revision(0), succeeded, responses }))
    }

    fn op(&mut self, op: &Op) -> Evaluated<OpResponse> {
        Ok(Ok(match op {
            Op::Range(range) => {
                // A revision is judged by the state before the transaction, and here a negative one is not the present
                // (etcd `txn.checkRange`).
                if range.revision > self.before.current_revision() {
                    return Ok(Err(RequestError::FutureRevision));
                }
                if range.revision.0 != 0 && range.revision < self.before.compacted_revision() {
                    return Ok(Err(RequestError::Compacted));
                }
                OpResponse::Range(accepted!(evaluate_range(&self.overlay, range)))
            }
            Op::Put(put) => OpResponse::Put(accepted!(self.put(put))),
            Op::DeleteRange(delete) => OpResponse::DeleteRange(accepted!(self.delete_range(delete))),
            Op::Txn(txn) => OpResponse::Txn(accepted!(self.txn_level(txn))),
        }))
    }
}

/// Whether a compare holds in `view` (etcd `txn.applyCompare`). Over a range of several keys it must hold for each; if
/// the range has no keys, a missing key stands in, except for a VALUE compare, which is then false.
fn holds(view: &dyn ReadView, compare: &Compare) -> Result<bool, ViewError> {
    let at = view.current_revision();
    let mut any = false;
    let mut all = true;
    if let KeyRange::Key(key) = &compare.range {
        if let Some(kv) = view.get(key, at)? {
            any = true;
            all = relates(compare, &kv);
        }
    } else {
        view.scan(&compare.range, at, &mut |kv| {
            any = true;
            all = relates(compare, &kv);
            if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    if any {
        return Ok(all);
    }
    Ok(!matches!(compare.target, CompareTarget::Value(_)) && relates(compare, &KeyValue::default()))
}

fn relates(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
        CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.operator {
        CompareOperator::Equal => order == Ordering::Equal,
        CompareOperator::NotEqual => order != Ordering::Equal,
        CompareOperator::Greater => order == Ordering::Greater,
        CompareOperator::Less => order == Ordering::Less,
    }
}
