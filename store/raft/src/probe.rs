//! What a checker of Raft's invariants looks at. Nothing here changes anything.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{EntryPayload, ServerState, async_runtime::watch::WatchReceiver};
use xebec_store_core::Command;

use crate::{member::Member, types::MemberId, wire};

/// Bytes of log entries read at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// A log entry, to be compared with other members'.
#[derive(Debug, Clone)]
pub struct LoggedEntry {
    /// Its place.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// CRC-32C of all of it.
    pub digest: u32,
    /// The commands in it.
    pub commands: Arc<[Command]>,
    /// Everyone in the membership that it is, if it is one.
    pub members: Option<BTreeSet<MemberId>>,
}

impl Member {
    /// The term in which this member leads, as far as it knows.
    #[must_use]
    pub fn leads_in_term(&self) -> Option<u64> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Entries of this member's log from `from` on, flushed or not, up to about a megabyte of them. Purged ones are
    /// left out. Blocks on the disk for old ones.
    ///
    /// # Errors
    /// What the log says, in words.
    pub fn logged(&self, from: u64) -> Result<Vec<LoggedEntry>, String> {
        let entries = self.machine().log.read(from..u64::MAX, READ_BYTES_MAX).map_err(|error| error.to_string())?;
        let logged = entries.into_iter().map(|stored| {
            let encoded = wire::encode(&stored.0).map_err(|error| error.to_string())?;
            let members = match &stored.0.payload {
                EntryPayload::Membership(membership) => Some(membership.nodes().map(|(id, _)| *id).collect()),
                EntryPayload::Blank | EntryPayload::Normal(_) => None,
            };
            Ok(LoggedEntry {
                members,
                index: stored.0.log_id.index,
                term: stored.0.log_id.committed_leader_id().term,
                digest: crc32c::crc32c(&encoded),
                commands: match stored.0.payload {
                    EntryPayload::Normal(batch) => batch.0,
                    EntryPayload::Blank | EntryPayload::Membership(_) => Arc::default(),
                },
            })
        });
        logged.collect()
    }
}
