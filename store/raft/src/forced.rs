//! A forced new cluster: the last surviving member goes on alone (etcd `--force-new-cluster`,
//! `server/etcdserver/bootstrap.go`).
//!
//! A membership of this member alone is appended to its log, in a term of its own, before Raft looks at it. Nothing else
//! changes: what was in the log stays, acknowledged or not (etcd drops what it does not know to be committed, which may
//! have been acknowledged). Applying the membership records the others as removed, so that any of them that comes back
//! and speaks to this member is told so and ends. Invariant: a forced membership never shrinks the log.

use openraft::{EntryPayload, Membership, impls::leader_id_std::LeaderId};

use crate::{
    error::StartError,
    log_store::{StoredEntry, flushed},
    roster::Roster,
    state_machine::Machine,
    types::{Entry, LogId, MemberId, MemberNode, StoredMembership, Vote},
    wire,
};

/// Bytes of log read at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// Leaves all members but this one behind, unless it is alone already.
pub(crate) async fn leave_all_others(machine: &Machine, own: MemberId) -> Result<(), StartError> {
    let failed = |error: &dyn std::error::Error| StartError::Raft(format!("forced new cluster: {error}"));
    let membership = effective_membership(machine)?;
    let Some(node) = membership.membership().get_node(&own) else {
        return Err(StartError::Config(format!("forced new cluster: {own:x} is no member of its own cluster")));
    };
    let node = MemberNode { is_voter_to_be: false, ..node.clone() };
    let alone =
        Membership::new(vec![[own].into()], [(own, node)].into_iter().collect::<std::collections::BTreeMap<_, _>>())
            .map_err(|error| failed(&error))?;
    if *membership.membership() == alone {
        return Ok(());
    }
    let vote: Option<Vote> =
        machine.log.vote().map(|bytes| wire::decode(&bytes)).transpose().map_err(|e| failed(&e))?;
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(last_term(machine)?) + 1;
    let vote = Vote { leader_id: LeaderId { term, voted_for: own }, committed: false };
    let (done, voted) = flushed();
    machine.log.save_vote(wire::encode(&vote).map_err(|error| failed(&error))?, done)?;
    voted.await.map_err(|error| failed(&error))?;
    let index = machine.log.last_index().map_or(0, |last| last + 1);
    let log_id = LogId { leader_id: term.into(), index };
    let (done, appended) = flushed();
    machine.log.append(vec![StoredEntry(Entry { log_id, payload: EntryPayload::Membership(alone) })], done)?;
    appended.await.map_err(|error| failed(&error))?;
    let left: Vec<String> =
        membership.membership().nodes().filter(|(id, _)| **id != own).map(|(id, _)| format!("{id:x}")).collect();
    tracing::warn!(?left, term, index, "forced a new cluster of this member alone");
    Ok(())
}

/// The last membership in the log, or else the applied one.
fn effective_membership(machine: &Machine) -> Result<StoredMembership, StartError> {
    let mut membership = Roster::clone(&machine.roster.borrow()).membership;
    let mut next = membership.log_id().map_or(0, |id| id.index + 1).max(machine.log.first_index());
    loop {
        let entries = machine.log.read(next..u64::MAX, READ_BYTES_MAX)?;
        let Some(last) = entries.last() else {
            return Ok(membership);
        };
        next = last.0.log_id.index + 1;
        for entry in entries {
            if let EntryPayload::Membership(found) = entry.0.payload {
                membership = StoredMembership::new(Some(entry.0.log_id), found);
            }
        }
    }
}

fn last_term(machine: &Machine) -> Result<u64, StartError> {
    let Some(last) = machine.log.last_index() else {
        return Ok(0);
    };
    let entries = machine.log.read(last..last + 1, READ_BYTES_MAX)?;
    Ok(entries.first().map_or(0, |entry| entry.0.log_id.committed_leader_id().term))
}
