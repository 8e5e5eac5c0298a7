//! The cluster's members as the replicated state has them: Raft's membership and what members say about themselves.
//!
//! Beside the membership there are three kinds of cluster records: `member/ID` (name and client URLs, published by the
//! member itself), `incarnation/ID` (which data directory the id stands for) and `removed/ID` (written in the batch that
//! applies the membership without that member, so that the two never disagree; etcd keeps the two in different stores
//! and had them disagree: etcd-io/etcd issues 19557 and 20967).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xebec_store_core::{Command, ReadView, Write};
use xebec_store_disk::View;

use crate::{
    types::{Entry, MemberId, MemberNode, StoredMembership},
    wire,
};

const ATTRIBUTES: &str = "member/";
const INCARNATION: &str = "incarnation/";
const REMOVED: &str = "removed/";

/// A member as clients see it (etcd `Member`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// Whether it was added as a learner and not promoted yet.
    pub is_learner: bool,
}

impl MemberInfo {
    /// Whether it has ever taken part (etcd `Member.IsStarted`).
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// What a member says about itself (etcd `membership.Attributes`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    name: String,
    client_urls: Vec<String>,
}

/// All members, and all that were.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    pub(crate) membership: StoredMembership,
    members: Vec<MemberInfo>,
    removed: BTreeSet<MemberId>,
    incarnations: BTreeMap<MemberId, u64>,
}

/// The replicated state cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the membership cannot be read: {0}")]
pub(crate) struct RosterError(String);

impl Roster {
    /// Reads the roster out of a view.
    pub(crate) fn read(view: &View) -> Result<Self, RosterError> {
        let failed = |error: &dyn std::error::Error| RosterError(error.to_string());
        let membership: StoredMembership = match view.membership().map_err(|error| failed(&error))? {
            Some(bytes) => wire::decode(&bytes).map_err(|error| failed(&error))?,
            None => StoredMembership::default(),
        };
        let records = |prefix| view.cluster_records(prefix).map_err(|error| failed(&error));
        let id_of =
            |name: &str, prefix| name.strip_prefix(prefix).and_then(|hex| MemberId::from_str_radix(hex, 16).ok());
        let mut attributes = BTreeMap::new();
        for (name, value) in records(ATTRIBUTES)? {
            let known: Attributes = wire::decode(&value).map_err(|error| failed(&error))?;
            attributes.extend(id_of(&name, ATTRIBUTES).map(|id| (id, known)));
        }
        let incarnations = records(INCARNATION)?.into_iter().filter_map(|(name, value)| {
            let number = u64::from_be_bytes(value.as_ref().try_into().ok()?);
            Some((id_of(&name, INCARNATION)?, number))
        });
        let removed = records(REMOVED)?.into_iter().filter_map(|(name, _)| id_of(&name, REMOVED));
        let (incarnations, removed) = (incarnations.collect(), removed.collect());
        Ok(Self { members: members(&membership, attributes), membership, removed, incarnations })
    }

    /// The members in order of their ids.
    #[must_use]
    pub fn members(&self) -> &[MemberInfo] {
        &self.members
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&MemberInfo> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether that id was a member's and never will be again.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The ids that were members' and never will be again.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Which data directory an id stands for, if that is recorded.
    pub(crate) fn incarnation(&self, id: MemberId) -> Option<u64> {
        self.incarnations.get(&id).copied()
    }

    /// Where peers reach a member, by what was committed last.
    pub(crate) fn node(&self, id: MemberId) -> Option<&MemberNode> {
        self.membership.membership().get_node(&id)
    }

    /// Whether Raft counts this member's vote.
    pub(crate) fn is_raft_voter(&self, id: MemberId) -> bool {
        self.membership.membership().voter_ids().any(|voter| voter == id)
    }
}

fn members(membership: &StoredMembership, mut attributes: BTreeMap<MemberId, Attributes>) -> Vec<MemberInfo> {
    let raft_learners: BTreeSet<MemberId> = membership.membership().learner_ids().collect();
    let infos = membership.membership().nodes().map(|(id, node)| {
        let Attributes { name, client_urls } = attributes.remove(id).unwrap_or_default();
        let is_learner = raft_learners.contains(id) && !node.is_voter_to_be;
        MemberInfo { id: *id, name, peer_urls: node.peer_urls.clone(), client_urls, is_learner }
    });
    infos.collect()
}

/// The command by which a member makes its name and client URLs known; `None` if that is what the roster says.
pub(crate) fn attributes_command(roster: &Roster, id: MemberId, name: &str, client_urls: &[String]) -> Option<Command> {
    if roster.member(id).is_some_and(|known| known.name == name && known.client_urls == client_urls) {
        return None;
    }
    let attributes = Attributes { name: name.to_owned(), client_urls: client_urls.to_vec() };
    let value = wire::encode(&attributes).ok()?;
    Some(Command::SetClusterRecord { name: record(ATTRIBUTES, id), value: Some(value.into()) })
}

/// The command that binds an id to a data directory.
pub(crate) fn incarnation_command(id: MemberId, incarnation: u64) -> Command {
    let value = Some(Bytes::copy_from_slice(&incarnation.to_be_bytes()));
    Command::SetClusterRecord { name: record(INCARNATION, id), value }
}

/// What is written beside a membership when it is applied: who is in `before` and not in the new one is removed for
/// good.
pub(crate) fn departures(before: &StoredMembership, after: &StoredMembership) -> Vec<Write> {
    let stays = |id: &MemberId| after.membership().get_node(id).is_some();
    let gone = before.membership().nodes().map(|(id, _)| *id).filter(|id| !stays(id));
    gone.flat_map(|id| {
        let at = after.log_id().map_or(0, |id| id.index);
        let set = |prefix, value| Write::ClusterRecord { name: record(prefix, id), value };
        [set(REMOVED, Some(Bytes::copy_from_slice(&at.to_be_bytes()))), set(ATTRIBUTES, None), set(INCARNATION, None)]
    })
    .collect()
}

/// Whether applying these may have changed the roster.
pub(crate) fn concerns<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> bool {
    entries.any(|entry| match &entry.payload {
        openraft::EntryPayload::Membership(_) => true,
        openraft::EntryPayload::Normal(batch) => {
            batch.0.iter().any(|command| matches!(command, Command::SetClusterRecord { .. }))
        }
        openraft::EntryPayload::Blank => false,
    })
}

fn record(prefix: &str, id: MemberId) -> String {
    format!("{prefix}{id:016x}")
}
