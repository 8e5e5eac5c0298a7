use crate::auth::{self, AuthCommand, AuthError, permit_command};
use crate::txn::{Evaluated, Evaluation, accepted};
use crate::{
    Alarm, AlarmKind, AlarmResponse, ClusterTime, Command, CompactResponse, Event, Lease, LeaseCheckpoint,
    LeaseDeadline, LeaseGrant, LeaseGrantResponse, LeaseRevoke, LeaseRevokeResponse, Overlay, ReadView, RequestError,
    Response, Revision, Txn, TxnResponse, ViewError, Write, validate,
};

/// What a committed command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision afterwards.
    pub revision: Revision,
    /// What to answer. A refusal has no writes and no events.
    pub result: Result<Response, RequestError>,
    /// What to commit, in order.
    pub writes: Vec<Write>,
    /// What watchers see: all at `revision`, in order of sub-revision; empty if no key changed.
    pub events: Vec<Event>,
}

/// Evaluates a committed command over the state before it. Pure: every member comes to the same.
///
/// # Errors
/// Only the view's own: a member that cannot read its state must stop, not answer.
pub fn apply(view: &dyn ReadView, command: &Command) -> Result<Applied, ViewError> {
    let mut evaluation = Evaluation::new(view);
    let result = evaluate(&mut evaluation, command)?;
    if result.is_err() {
        return Ok(Applied { revision: view.current_revision(), result, writes: Vec::new(), events: Vec::new() });
    }
    let revision = evaluation.now().current_revision();
    Ok(Applied { revision, result, writes: evaluation.writes, events: evaluation.events })
}

/// Evaluates commands that will be committed together: each sees what those before it wrote.
///
/// # Errors
/// As [`apply`].
pub fn apply_all<'c>(
    view: &dyn ReadView,
    commands: impl IntoIterator<Item = &'c Command>,
) -> Result<Vec<Applied>, ViewError> {
    let mut overlay = Overlay::new(view);
    let mut all = Vec::new();
    for command in commands {
        let applied = apply(&overlay, command)?;
        for write in &applied.writes {
            overlay.absorb(write);
        }
        all.push(applied);
    }
    Ok(all)
}

/// Evaluates a transaction that only reads ([`Txn::is_read_only`]), which needs no log entry. The outer error is the
/// view's, the inner one the request's.
pub fn evaluate_read_only_txn(view: &dyn ReadView, txn: &Txn) -> Result<Result<TxnResponse, RequestError>, ViewError> {
    debug_assert!(txn.is_read_only(), "a transaction that may write goes through the log");
    Evaluation::new(view).txn(txn)
}

fn evaluate(evaluation: &mut Evaluation<'_>, command: &Command) -> Evaluated<Response> {
    let (caller, command) = match command {
        Command::Authorized(authorized) => (Some(&authorized.caller), authorized.command.as_ref()),
        command => (None, command),
    };
    if let Some(refusal) = refused_by_alarm(evaluation.before(), command) {
        return Ok(Err(refusal));
    }
    if let Err(refusal) = permit_command(evaluation.before(), caller, command)? {
        return Ok(Err(refusal.into()));
    }
    Ok(Ok(match command {
        Command::Put(put) => Response::Put(accepted!(evaluation.put_alone(put))),
        Command::DeleteRange(delete) => Response::DeleteRange(accepted!(evaluation.delete_range(delete))),
        Command::Txn(txn) => Response::Txn(accepted!(evaluation.txn(txn))),
        Command::Compact { revision } => match compact(evaluation, *revision) {
            Ok(response) => Response::Compact(response),
            Err(refusal) => return Ok(Err(refusal)),
        },
        Command::LeaseGrant(grant) => Response::LeaseGrant(accepted!(lease_grant(evaluation, grant))),
        Command::LeaseRevoke(revoke) => Response::LeaseRevoke(accepted!(lease_revoke(evaluation, revoke))),
        Command::LeaseCheckpoint(checkpoint) => {
            lease_checkpoint(evaluation, checkpoint)?;
            Response::LeaseCheckpoint
        }
        Command::AlarmActivate(alarm) => Response::Alarm(set_alarm(evaluation, *alarm, true)),
        Command::AlarmDeactivate(alarm) => Response::Alarm(set_alarm(evaluation, *alarm, false)),
        Command::SetClusterRecord { name, value } => {
            evaluation.record(Write::ClusterRecord { name: name.clone(), value: value.clone() });
            Response::ClusterRecord
        }
        Command::Auth(command) => match auth_command(evaluation, command) {
            Ok(()) => Response::Auth { revision: evaluation.before().current_revision() },
            Err(refusal) => return Ok(Err(refusal.into())),
        },
        // The wrapper was taken off above, and there is only ever one.
        Command::Authorized(_) => return Ok(Err(AuthError::PermissionDenied.into())),
    }))
}

fn auth_command(evaluation: &mut Evaluation<'_>, command: &AuthCommand) -> Result<(), AuthError> {
    // Without a time, or with one of a clock that lags: see `lease_grant`.
    let replicated = evaluation.now().cluster_time();
    let mut restamped = None;
    let command = match command.now() {
        Some(now) if now < replicated => {
            let command = restamped.insert(command.clone());
            command.stamp(replicated);
            &*command
        }
        Some(_) | None => command,
    };
    let changes = auth::evaluate(evaluation.before().auth(), command)?;
    if let Some(now) = command.now() {
        advance_time(evaluation, now);
    }
    changes.into_iter().for_each(|change| evaluation.record(Write::Auth(change)));
    Ok(())
}

/// NOSPACE refuses what makes the store grow, CORRUPT every change; alarms themselves always pass
/// (etcd `server/etcdserver/apply/`, the capped and corrupt appliers).
fn refused_by_alarm(view: &dyn ReadView, command: &Command) -> Option<RequestError> {
    let grows = match command {
        Command::AlarmActivate(_) | Command::AlarmDeactivate(_) | Command::SetClusterRecord { .. } => return None,
        Command::LeaseCheckpoint(_) | Command::Auth(_) | Command::Authorized(_) => return None,
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(txn) => txn.has_put(),
        Command::DeleteRange(_) | Command::Compact { .. } | Command::LeaseRevoke(_) => false,
    };
    let alarms = view.alarms();
    if alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
        return Some(RequestError::Corrupt);
    }
    let no_space = alarms.iter().any(|alarm| alarm.kind == AlarmKind::NoSpace);
    (no_space && grows).then_some(RequestError::NoSpace)
}

fn compact(evaluation: &mut Evaluation<'_>, revision: Revision) -> Result<CompactResponse, RequestError> {
    if revision <= evaluation.before().compacted_revision() {
        return Err(RequestError::Compacted);
    }
    if revision > evaluation.before().current_revision() {
        return Err(RequestError::FutureRevision);
    }
    evaluation.record(Write::Compact(revision));
    Ok(CompactResponse { revision: evaluation.before().current_revision() })
}

fn lease_grant(evaluation: &mut Evaluation<'_>, grant: &LeaseGrant) -> Evaluated<LeaseGrantResponse> {
    if grant.id.is_none() {
        return Ok(Err(RequestError::LeaseNotFound));
    }
    if let Err(refusal) = validate::lease_ttl(grant.ttl_seconds) {
        return Ok(Err(refusal));
    }
    if evaluation.now().lease(grant.id)?.is_some() {
        return Ok(Err(RequestError::LeaseExists));
    }
    // A leader that has not opened its lease table yet proposes without a time: the cluster's own is then the latest.
    let now = grant.now.max(evaluation.now().cluster_time());
    advance_time(evaluation, now);
    let ttl_millis = u64::try_from(grant.ttl_seconds).unwrap_or(0).saturating_mul(1000);
    let lease = Lease { id: grant.id, ttl_seconds: grant.ttl_seconds, deadline: now.plus_millis(ttl_millis) };
    evaluation.record(Write::LeaseSet(lease));
    let revision = evaluation.before().current_revision();
    Ok(Ok(LeaseGrantResponse { revision, id: grant.id, ttl_seconds: grant.ttl_seconds }))
}

fn lease_revoke(evaluation: &mut Evaluation<'_>, revoke: &LeaseRevoke) -> Evaluated<LeaseRevokeResponse> {
    let mut revoked = Vec::new();
    for id in &revoke.ids {
        if evaluation.now().lease(*id)?.is_some() {
            evaluation.delete_keys_of(*id)?;
            evaluation.record(Write::LeaseRemove(*id));
            revoked.push(*id);
        }
    }
    if revoked.is_empty() && !revoke.ids.is_empty() {
        return Ok(Err(RequestError::LeaseNotFound));
    }
    Ok(Ok(LeaseRevokeResponse { revision: evaluation.now().current_revision(), revoked }))
}

fn lease_checkpoint(evaluation: &mut Evaluation<'_>, checkpoint: &LeaseCheckpoint) -> Result<(), ViewError> {
    advance_time(evaluation, checkpoint.now);
    for LeaseDeadline { id, deadline } in &checkpoint.deadlines {
        // A replicated deadline never moves back: an older leader's checkpoint may commit late.
        if let Some(lease) = evaluation.now().lease(*id)?
            && lease.deadline < *deadline
        {
            evaluation.record(Write::LeaseSet(Lease { deadline: *deadline, ..lease }));
        }
    }
    Ok(())
}

fn advance_time(evaluation: &mut Evaluation<'_>, now: ClusterTime) {
    if now > evaluation.now().cluster_time() {
        evaluation.record(Write::ClusterTime(now));
    }
}

fn set_alarm(evaluation: &mut Evaluation<'_>, alarm: Alarm, raised: bool) -> AlarmResponse {
    let revision = evaluation.before().current_revision();
    let is_raised = evaluation.before().alarms().contains(&alarm);
    if is_raised == raised {
        // etcd answers a repeated activation with the alarm, a repeated clearing with nothing.
        return AlarmResponse { revision, alarms: if raised { vec![alarm] } else { Vec::new() } };
    }
    evaluation.record(if raised { Write::AlarmSet(alarm) } else { Write::AlarmRemove(alarm) });
    AlarmResponse { revision, alarms: vec![alarm] }
}
