//! What the server checks before it proposes a request, so that nothing invalid enters the log
//! (etcd `server/etcdserver/api/v3rpc/key.go`).

use std::collections::BTreeSet;

use crate::spans::Spans;
use crate::{DeleteRange, KeyRange, Op, Put, Range, RequestError, Txn};

/// Operations that a transaction may have in its compares and in each branch (etcd `--max-txn-ops`).
pub const TXN_OPS_MAX_DEFAULT: usize = 128;

/// The longest TTL a lease may have (etcd `lease.MaxLeaseTTL`).
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Checks a Range.
///
/// # Errors
/// [`RequestError::EmptyKey`].
pub fn range(range: &Range) -> Result<(), RequestError> {
    if range.range.start().is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// Checks a Put.
///
/// # Errors
/// [`RequestError::EmptyKey`], [`RequestError::ValueProvided`], [`RequestError::LeaseProvided`].
pub fn put(put: &Put) -> Result<(), RequestError> {
    if put.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if put.ignore_lease && !put.lease.is_none() {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a DeleteRange.
///
/// # Errors
/// [`RequestError::EmptyKey`].
pub fn delete_range(delete: &DeleteRange) -> Result<(), RequestError> {
    if delete.range.start().is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// Checks a Txn, nested ones included. `ops_max` bounds the compares and each branch; what the outer level takes is
/// not left for the inner ones, as in etcd.
///
/// # Errors
/// [`RequestError::TooManyOps`], [`RequestError::DuplicateKey`] and those of the operations.
pub fn txn(txn: &Txn, ops_max: usize) -> Result<(), RequestError> {
    txn_ops(txn, ops_max)?;
    txn_overlaps(txn)
}

/// Checks that no branch of a Txn puts a key twice, or puts and deletes it, in a way that etcd refuses.
///
/// # Errors
/// [`RequestError::DuplicateKey`].
pub fn txn_overlaps(txn: &Txn) -> Result<(), RequestError> {
    written_keys(&txn.success)?;
    written_keys(&txn.failure)?;
    Ok(())
}

/// Checks the TTL of a lease that is to be granted.
///
/// # Errors
/// [`RequestError::LeaseTtlTooLarge`].
pub fn lease_ttl(ttl_seconds: i64) -> Result<(), RequestError> {
    if ttl_seconds > LEASE_TTL_SECONDS_MAX { Err(RequestError::LeaseTtlTooLarge) } else { Ok(()) }
}

fn txn_ops(txn: &Txn, ops_max: usize) -> Result<(), RequestError> {
    let ops = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    let Some(ops_left) = ops_max.checked_sub(ops) else { return Err(RequestError::TooManyOps) };
    if txn.compares.iter().any(|compare| compare.range.start().is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(request) => range(request)?,
            Op::Put(request) => put(request)?,
            Op::DeleteRange(request) => delete_range(request)?,
            Op::Txn(request) => txn_ops(request, ops_left)?,
        }
    }
    Ok(())
}

#[derive(Default)]
struct WrittenKeys {
    puts: BTreeSet<bytes::Bytes>,
    deletes: Spans,
}

/// Collects what a list of operations may write, refusing keys put twice or both put and deleted. Deletions may
/// overlap, and so may the two branches of a nested transaction, of which only one runs.
///
/// Two overlaps pass, because etcd lets them pass (`v3rpc/key.go`, `checkIntervals`), and a key then changes twice at
/// one revision: a nested deletion after a put in an earlier nested transaction, since only deletions known by then are
/// looked at; and a deletion "from key", whose interval ends before it begins there and so meets nothing.
fn written_keys(ops: &[Op]) -> Result<WrittenKeys, RequestError> {
    let mut written = WrittenKeys::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op
            && !matches!(delete.range, KeyRange::From(_))
        {
            written.deletes.insert(&delete.range);
        }
    }
    for op in ops {
        if let Op::Txn(txn) = op {
            let then = written_keys(&txn.success)?;
            let mut nested = written_keys(&txn.failure)?;
            nested.puts.extend(then.puts);
            if nested.puts.iter().any(|key| written.puts.contains(key) || written.deletes.contains(key)) {
                return Err(RequestError::DuplicateKey);
            }
            written.puts.extend(nested.puts);
            written.deletes.extend(then.deletes);
            written.deletes.extend(nested.deletes);
        }
    }
    for op in ops {
        if let Op::Put(put) = op
            && (written.deletes.contains(&put.key) || !written.puts.insert(put.key.clone()))
        {
            return Err(RequestError::DuplicateKey);
        }
    }
    Ok(written)
}
