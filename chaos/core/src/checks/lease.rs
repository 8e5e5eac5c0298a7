//! Leases: a key lives as long as its lease allows, and not much longer.

use std::collections::HashMap;

use crate::{
    history::{Action, History, Operation, Outcome},
    verdict::{Verdict, Violation},
};

/// Nanoseconds that a key may outlive its lease's last possible deadline: leases are revoked by a leader, so that an election
/// may lie between, and etcd gives every lease its whole time again after one (etcd issue 9395).
pub const LATE_MAX: u64 = 15_000_000_000;

#[derive(Default)]
struct Lease<'history> {
    /// Grants and renewals that were not refused.
    renewals: Vec<&'history Operation>,
    revocations: Vec<&'history Operation>,
    /// Milliseconds asked for.
    ttl_ms: u64,
}

/// Whether every look at an attached key fits the grants, renewals and revocations of its lease.
pub fn check(history: &History) -> Verdict {
    let mut leases: HashMap<i64, Lease<'_>> = HashMap::new();
    let mut attached: HashMap<&str, (&Operation, i64)> = HashMap::new();
    let mut looks = Vec::new();
    for operation in history.operations.iter().filter(|operation| !operation.failed()) {
        match &operation.action {
            Action::Grant { lease, ttl_ms } => {
                let lease = leases.entry(*lease).or_default();
                lease.ttl_ms = lease.ttl_ms.max(*ttl_ms);
                lease.renewals.push(operation);
            }
            Action::KeepAlive { lease } => leases.entry(*lease).or_default().renewals.push(operation),
            Action::Revoke { lease } => leases.entry(*lease).or_default().revocations.push(operation),
            Action::Attach { key, lease } => {
                attached.insert(key, (operation, *lease));
            }
            Action::Look { key } => {
                let present = operation.answer().and_then(|answer| answer.present);
                looks.extend(present.map(|present| (operation, key.as_str(), present)));
            }
            _ => {}
        }
    }
    let nothing = Lease::default();
    let violations: Vec<_> = looks
        .iter()
        .filter_map(|(look, key, present)| {
            let Some((attach, lease)) = attached.get(key) else { return present.then(|| nobody(key, look)) };
            let lease = leases.get(lease).unwrap_or(&nothing);
            if *present { too_late(key, lease, attach, look) } else { too_early(key, lease, attach, look) }
        })
        .collect();
    let summary = format!("{} leases, {} keys, {} looks", leases.len(), attached.len(), looks.len());
    Verdict::new("lease", looks.len(), summary, violations)
}

/// Nanoseconds that a grant or renewal gives, at least the time asked for.
fn granted(operation: &Operation, lease: &Lease<'_>) -> u64 {
    let told = operation.answer().and_then(|answer| answer.ttl_ms);
    told.unwrap_or(lease.ttl_ms).saturating_mul(1_000_000)
}

fn too_early(key: &str, lease: &Lease<'_>, attach: &Operation, look: &Operation) -> Option<Violation> {
    let looked = look.effective_until();
    let was_there = attach.effective_until() < look.invoked;
    let may_be_revoked = lease.revocations.iter().any(|revocation| revocation.invoked <= looked);
    if !was_there || may_be_revoked {
        return None;
    }
    // A renewal that was answered found the lease alive, whenever it was answered.
    let renewal = lease
        .renewals
        .iter()
        .filter(|renewal| matches!(renewal.outcome, Outcome::Ok(_)) && granted(renewal, lease) > 0)
        .find(|renewal| renewal.invoked.saturating_add(granted(renewal, lease)) > looked)?;
    let explanation =
        format!("{key} is gone though its lease was renewed for {} ms", granted(renewal, lease) / 1_000_000);
    Some(Violation::of("gone-early", explanation, &[attach, renewal, look]))
}

fn too_late(key: &str, lease: &Lease<'_>, attach: &Operation, look: &Operation) -> Option<Violation> {
    // An attachment under way may put the key there after the lease's end only if the lease had not ended.
    let revoked = lease.revocations.iter().find(|revocation| revocation.effective_until() < look.invoked);
    if let Some(revocation) = revoked {
        let explanation = format!("{key} is there though its lease was revoked");
        return Some(Violation::of("outlived-revocation", explanation, &[attach, revocation, look]));
    }
    let begun = lease.renewals.iter().filter(|renewal| renewal.invoked <= look.effective_until());
    let deadline = |renewal: &&&Operation| {
        let until = renewal.completed.unwrap_or(u64::MAX);
        until.saturating_add(granted(renewal, lease)).saturating_add(LATE_MAX)
    };
    let last = begun.max_by_key(deadline)?;
    if deadline(&last) >= look.invoked {
        return None;
    }
    let explanation =
        format!("{key} is there {} ms after its lease must be over", (look.invoked - deadline(&last)) / 1_000_000);
    Some(Violation::of("outlived-lease", explanation, &[attach, last, look]))
}

fn nobody(key: &str, look: &Operation) -> Violation {
    Violation::of("unwritten", format!("{key} is there though nobody wrote it"), &[look])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::{ok, unknown},
    };

    const SECOND: u64 = 1_000_000_000;

    fn at(begin: u64, action: Action, answer: Answer) -> Operation {
        ok(0, begin * SECOND, begin * SECOND + 1_000, action, answer)
    }

    fn grant(begin: u64) -> Operation {
        at(begin, Action::Grant { lease: 1, ttl_ms: 5_000 }, Answer { ttl_ms: Some(5_000), ..Answer::default() })
    }

    fn renew(begin: u64, ttl_ms: u64) -> Operation {
        at(begin, Action::KeepAlive { lease: 1 }, Answer { ttl_ms: Some(ttl_ms), ..Answer::default() })
    }

    fn attach(begin: u64) -> Operation {
        at(begin, Action::Attach { key: "k".into(), lease: 1 }, Answer::default())
    }

    fn look(begin: u64, present: bool) -> Operation {
        at(begin, Action::Look { key: "k".into() }, Answer { present: Some(present), ..Answer::default() })
    }

    fn revoke(begin: u64) -> Operation {
        at(begin, Action::Revoke { lease: 1 }, Answer::default())
    }

    #[test]
    fn a_key_lives_while_its_lease_is_renewed() {
        let operations = vec![grant(0), attach(1), renew(4, 5_000), look(8, true), look(10, false), renew(11, 0)];
        holds(check, operations);
    }

    #[test]
    fn gone_before_the_deadline_is_caught() {
        anomalies(check, vec![grant(0), attach(1), look(4, false)], &["gone-early"]);
        anomalies(check, vec![grant(0), attach(1), renew(4, 5_000), look(8, false)], &["gone-early"]);
        holds(check, vec![grant(0), attach(1), revoke(2), look(4, false)]);
        holds(
            check,
            vec![grant(0), attach(1), unknown(1, 2 * SECOND, 3 * SECOND, Action::Revoke { lease: 1 }), look(4, false)],
        );
    }

    #[test]
    fn there_after_the_revocation_is_caught() {
        anomalies(check, vec![grant(0), attach(1), revoke(2), look(4, true)], &["outlived-revocation"]);
    }

    #[test]
    fn there_long_after_the_deadline_is_caught() {
        holds(check, vec![grant(0), attach(1), look(19, true)]);
        anomalies(check, vec![grant(0), attach(1), look(21, true)], &["outlived-lease"]);
    }
}
