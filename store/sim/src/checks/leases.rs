//! Lease rules: none is revoked before its deadline, whoever leads, and every expired one goes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    checks::{Truth, Violation},
    history::{Answer, Ask, Operation},
};

/// How much faster than real time a leader's clock may run, in percent: the simulator's drift and a little.
const DRIFT_PERCENT_MAX: u64 = 6;
/// Slack for what is measured in steps of a millisecond, and for when a commit is seen.
const SLACK_MILLIS: u64 = 50;
/// What a jump of the clock may cost: `CLOCK_STEP_MILLIS_MAX` of the store's core.
const JUMP_COST_MILLIS: u64 = xebec_store_core::CLOCK_STEP_MILLIS_MAX;

/// Checks every revocation. `jumps` are the moments at which some member's clock jumped, in simulated milliseconds.
///
/// # Errors
/// The first lease that went too early.
pub fn check(truth: &Truth, operations: &[Operation], jumps: &[u64]) -> Result<(), Violation> {
    let mut revoked_by_client: BTreeSet<i64> = BTreeSet::new();
    let mut ttl_millis: BTreeMap<i64, u64> = BTreeMap::new();
    // Per lease: when the requests began that a member confirmed.
    let mut confirmed: BTreeMap<i64, Vec<(u64, u64)>> = BTreeMap::new();
    for operation in operations {
        match (&operation.ask, &operation.answer) {
            (Ask::Revoke { id }, _) => {
                revoked_by_client.insert(*id);
            }
            (Ask::Grant { id, .. }, Answer::Grant { ttl_seconds }) => {
                ttl_millis.insert(*id, u64::try_from(*ttl_seconds).unwrap_or(0) * 1_000);
                confirmed.entry(*id).or_default().push((operation.began_millis, operation.ended_millis));
            }
            (Ask::KeepAlive { id }, Answer::KeepAlive { ttl_seconds }) if *ttl_seconds > 0 => {
                confirmed.entry(*id).or_default().push((operation.began_millis, operation.ended_millis));
            }
            _ => {}
        }
    }
    for revocation in &truth.revocations {
        for id in revocation.ids.iter().filter(|id| !revoked_by_client.contains(id)) {
            let Some(ttl) = ttl_millis.get(id) else { continue };
            let renewals = confirmed.get(id).map(Vec::as_slice).unwrap_or_default();
            let Some((renewed, _)) = renewals.iter().rev().find(|(began, _)| *began <= revocation.seen_millis) else {
                continue;
            };
            let jumped = jumps.iter().filter(|at| (*renewed..=revocation.seen_millis).contains(at)).count() as u64;
            let lived = (revocation.seen_millis - renewed) * (100 + DRIFT_PERCENT_MAX) / 100;
            if lived + SLACK_MILLIS + jumped * JUMP_COST_MILLIS < *ttl {
                let detail = format!(
                    "lease {id} of {ttl} ms was confirmed at {renewed} ms and revoked at {} ms; asked: {:?}",
                    revocation.seen_millis,
                    operations.iter().filter(|operation| concerns(operation, *id)).collect::<Vec<_>>()
                );
                return Err(Violation::new("no lease is revoked before its deadline", detail));
            }
        }
    }
    Ok(())
}

/// Whether an operation is about this lease itself, for the report.
fn concerns(operation: &Operation, lease: i64) -> bool {
    matches!(&operation.ask, Ask::Grant { id, .. } | Ask::KeepAlive { id } | Ask::Revoke { id } if *id == lease)
}
