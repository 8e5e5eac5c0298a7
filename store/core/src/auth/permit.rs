//! Whether a whole command may run: every key that it reads or changes (etcd `server/etcdserver/apply/auth.go`).

use bytes::Bytes;

use super::{Access, AuthCommand, AuthError, Caller};
use crate::{Command, DeleteRange, KeyRange, LeaseId, Op, Put, ReadView, Txn, ViewError};

/// Whether it may: the outer error is the view's.
type Permitted = Result<Result<(), AuthError>, ViewError>;

/// Hands a refusal to the caller of an expression of type [`Permitted`].
macro_rules! permitted {
    ($permitted:expr) => {
        if let Err(refusal) = $permitted? {
            return Ok(Err(refusal));
        }
    };
}

/// Whether a committed command may run. Without a `caller` it comes from the server itself, or from a client who did
/// not say who they are; which of the two, the kind of command tells.
pub(crate) fn permit_command(view: &dyn ReadView, caller: Option<&Caller>, command: &Command) -> Permitted {
    if !view.auth().is_enabled() || (caller.is_none() && is_own(command)) {
        return Ok(Ok(()));
    }
    let anonymous = Caller::anonymous();
    let caller = caller.unwrap_or(&anonymous);
    match command {
        Command::Put(put) => permit_put(view, caller, put),
        Command::DeleteRange(delete) => Ok(permit_delete(view, caller, delete)),
        Command::Txn(txn) => permit_txn(view, caller, txn),
        Command::LeaseGrant(_) => Ok(view.auth().permit_known(caller)),
        Command::LeaseRevoke(revoke) => {
            for id in &revoke.ids {
                permitted!(permit_lease_renewal(view, caller, *id));
            }
            Ok(view.auth().permit_known(caller))
        }
        // One wrapper is all there ever is.
        Command::Authorized(_) => Ok(Err(AuthError::PermissionDenied)),
        // Everything else is for administrators.
        _ => Ok(view.auth().permit_admin(caller)),
    }
}

/// Whether a command without a caller is the server's own. What only clients ask for is not: they reach the log without
/// a caller if their member did not know yet that authentication is on.
fn is_own(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_) | Command::Compact { .. } => false,
        Command::Auth(command) => matches!(
            command,
            AuthCommand::Authenticate { .. } | AuthCommand::RenewToken { .. } | AuthCommand::ExpireTokens { .. }
        ),
        Command::Authorized(_) => false,
        _ => true,
    }
}

fn permit_put(view: &dyn ReadView, caller: &Caller, put: &Put) -> Permitted {
    let key = KeyRange::Key(put.key.clone());
    if let Err(refusal) = view.auth().permit_keys(caller, &key, Access::Write) {
        return Ok(Err(refusal));
    }
    // Who hangs a key on a lease shares the fate of the other keys there, and could not even revoke it.
    permitted!(permit_lease_renewal(view, caller, put.lease));
    Ok(if put.prev_kv { view.auth().permit_keys(caller, &key, Access::Read) } else { Ok(()) })
}

fn permit_delete(view: &dyn ReadView, caller: &Caller, delete: &DeleteRange) -> Result<(), AuthError> {
    view.auth().permit_keys(caller, &delete.range, Access::Write)?;
    if delete.prev_kv { view.auth().permit_keys(caller, &delete.range, Access::Read) } else { Ok(()) }
}

/// Whether the caller may run a transaction: both branches and all compares, nested ones included.
///
/// # Errors
/// The view's.
pub fn permit_txn(view: &dyn ReadView, caller: &Caller, txn: &Txn) -> Result<Result<(), AuthError>, ViewError> {
    for compare in &txn.compares {
        if let Err(refusal) = view.auth().permit_keys(caller, &compare.range, Access::Read) {
            return Ok(Err(refusal));
        }
    }
    for op in txn.success.iter().chain(&txn.failure) {
        let judged = match op {
            Op::Range(range) => Ok(view.auth().permit_keys(caller, &range.range, Access::Read)),
            Op::Put(put) => permit_put(view, caller, put),
            Op::DeleteRange(delete) => Ok(permit_delete(view, caller, delete)),
            Op::Txn(txn) => permit_txn(view, caller, txn),
        };
        permitted!(judged);
    }
    Ok(Ok(()))
}

/// Whether the caller may renew, revoke or join a lease: admins any, others those whose keys they may write
/// (etcd `checkLeasePuts`, `checkLeaseRenew`).
///
/// # Errors
/// The view's.
pub fn permit_lease_renewal(
    view: &dyn ReadView,
    caller: &Caller,
    id: LeaseId,
) -> Result<Result<(), AuthError>, ViewError> {
    permit_lease(view, caller, id, Access::Write)
}

/// Whether the caller may be told of a lease and its keys: admins of any, others of those whose keys they may read
/// (etcd `checkLeaseTimeToLive`, `checkLeaseLeases`).
///
/// # Errors
/// The view's.
pub fn permit_lease_sight(
    view: &dyn ReadView,
    caller: &Caller,
    id: LeaseId,
) -> Result<Result<(), AuthError>, ViewError> {
    permit_lease(view, caller, id, Access::Read)
}

fn permit_lease(view: &dyn ReadView, caller: &Caller, id: LeaseId, access: Access) -> Permitted {
    if id.is_none() || view.auth().permit_admin(caller).is_ok() {
        return Ok(Ok(()));
    }
    let keys: Vec<Bytes> = view.lease_keys(id)?;
    let mut judged = keys.into_iter().map(|key| view.auth().permit_keys(caller, &KeyRange::Key(key), access));
    Ok(judged.find(Result::is_err).unwrap_or(Ok(())))
}
