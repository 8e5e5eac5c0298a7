//! Raft's invariants (Ongaro and Ousterhout 2014, figure 3), looked at after every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use xebec_store_core::{Command, KeyRange, ReadView, Revision};
use xebec_store_raft::{LoggedEntry, Member, MemberId};

use crate::{checks::Violation, network::HostId, trace::Trace};

/// An entry that some member has applied.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its leader's term.
    pub term: u64,
    /// Hash of all of it.
    pub digest: u32,
    /// What it says.
    pub commands: Arc<[Command]>,
    /// Everyone in the membership that it is, if it is one.
    pub members: Option<BTreeSet<MemberId>>,
    /// When the first member was seen to have applied it, in simulated milliseconds.
    pub seen_millis: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    applied: u64,
    last: u64,
    term: u64,
}

/// What the checks remember.
#[derive(Debug, Default)]
pub struct RaftChecks {
    leaders: BTreeMap<u64, HostId>,
    /// Per index and term: the entry's hash and the term of the entry before it.
    entries: BTreeMap<(u64, u64), (u32, Option<u64>)>,
    /// Applied entries by index.
    pub committed: BTreeMap<u64, Committed>,
    /// Per applied index: the hash of the state.
    states: BTreeMap<u64, (u32, HostId)>,
    /// Per revision: the digest by which members compare themselves.
    digests: BTreeMap<Revision, (u64, HostId)>,
    progress: BTreeMap<HostId, Progress>,
    /// States that were compared with another member's.
    pub states_compared: u64,
    /// Terms with a leader.
    pub elections: u64,
}

impl RaftChecks {
    /// A member lost its memory: look at all of its log again.
    pub fn forget(&mut self, host: HostId) {
        self.progress.remove(&host);
    }

    /// Looks at a member.
    ///
    /// # Errors
    /// The invariant that it breaks.
    pub fn observe(&mut self, host: HostId, member: &Member, now_millis: u64, trace: &Trace) -> Result<(), Violation> {
        let applied = *member.feed().applied().borrow();
        let status = member.status();
        let before = self.progress.get(&host).copied().unwrap_or_default();
        let now = Progress { applied, last: status.last_index, term: status.term };
        if (now.applied, now.last, now.term) != (before.applied, before.last, before.term) {
            let fresh = before.applied == 0;
            let entries = logged_from(member, if fresh { 0 } else { before.applied })
                .map_err(|reason| Violation::new("a log that can be read", format!("m{host}: {reason}")))?;
            self.log_matching(host, &entries)?;
            self.commit(host, &entries, applied, now_millis)?;
            self.progress.insert(host, now);
        }
        if let Some(term) = member.leads_in_term() {
            self.election_safety(host, term, member)?;
        }
        if now.applied != before.applied {
            let (index, hash) = self.state_machine_safety(host, member)?;
            trace.state(now_millis * 1_000, host, index, hash);
        }
        Ok(())
    }

    fn log_matching(&mut self, host: HostId, entries: &[LoggedEntry]) -> Result<(), Violation> {
        let mut before: Option<u64> = None;
        for entry in entries {
            let found = (entry.digest, before);
            let known = self.entries.entry((entry.index, entry.term)).or_insert(found);
            let same_before = known.1.is_none() || before.is_none() || known.1 == before;
            if known.0 != entry.digest || !same_before {
                let detail = format!(
                    "m{host} has {:08x} after term {before:?} at index {} of term {}, another member {:08x} after {:?}",
                    entry.digest, entry.index, entry.term, known.0, known.1
                );
                return Err(Violation::new("log matching", detail));
            }
            known.1 = known.1.or(before);
            before = Some(entry.term);
        }
        Ok(())
    }

    fn commit(
        &mut self,
        host: HostId,
        entries: &[LoggedEntry],
        applied: u64,
        now_millis: u64,
    ) -> Result<(), Violation> {
        for entry in entries.iter().take_while(|entry| entry.index <= applied) {
            let seen = Committed {
                term: entry.term,
                digest: entry.digest,
                commands: entry.commands.clone(),
                members: entry.members.clone(),
                seen_millis: now_millis,
            };
            let known = self.committed.entry(entry.index).or_insert(seen);
            if (known.term, known.digest) != (entry.term, entry.digest) {
                let detail = format!(
                    "m{host} applied {:08x} of term {} at index {}, another member {:08x} of term {}",
                    entry.digest, entry.term, entry.index, known.digest, known.term
                );
                return Err(Violation::new("state machine safety", detail));
            }
        }
        Ok(())
    }

    fn election_safety(&mut self, host: HostId, term: u64, member: &Member) -> Result<(), Violation> {
        match self.leaders.get(&term) {
            Some(leader) if *leader == host => Ok(()),
            Some(leader) => {
                Err(Violation::new("election safety", format!("m{leader} and m{host} both lead in term {term}")))
            }
            None => {
                self.leaders.insert(term, host);
                self.elections += 1;
                self.leader_completeness(host, term, member)
            }
        }
    }

    /// A new leader has every entry that was committed in an earlier term.
    fn leader_completeness(&self, host: HostId, term: u64, member: &Member) -> Result<(), Violation> {
        let applied = *member.feed().applied().borrow();
        let mut next = applied + 1;
        let last_before =
            self.committed.iter().rev().find(|(_, entry)| entry.term < term).map_or(0, |(index, _)| *index);
        while next <= last_before {
            let entries = member
                .logged(next)
                .map_err(|reason| Violation::new("a log that can be read", format!("m{host}: {reason}")))?;
            if entries.is_empty() {
                break;
            }
            for entry in entries.iter().take_while(|entry| entry.index <= last_before) {
                let committed = self.committed.get(&entry.index);
                if let Some(committed) = committed.filter(|known| known.term < term && known.digest != entry.digest) {
                    let detail = format!(
                        "m{host} leads in term {term} with another entry {} than was committed in term {}",
                        entry.index, committed.term
                    );
                    return Err(Violation::new("leader completeness", detail));
                }
                next = entry.index + 1;
            }
            if entries.last().is_some_and(|last| last.index > last_before) {
                next = last_before + 1;
            }
        }
        if next <= last_before {
            let detail = format!("m{host} leads in term {term} without entry {next}, which was committed before");
            return Err(Violation::new("leader completeness", detail));
        }
        Ok(())
    }

    /// Answers with the state's index and hash.
    fn state_machine_safety(&mut self, host: HostId, member: &Member) -> Result<(u64, u32), Violation> {
        let view = member.keyspace().view();
        let index = view.position().map_or(0, |position| position.index);
        let hash =
            state_hash(&*view).map_err(|error| Violation::new("a keyspace that can be read", error.to_string()))?;
        match self.states.get(&index) {
            None => {
                self.states.insert(index, (hash, host));
            }
            Some((known, _)) if *known == hash => self.states_compared += 1,
            Some((known, other)) => {
                let detail = format!("at index {index} m{host} has state {hash:08x}, m{other} {known:08x}");
                return Err(Violation::new("state machine safety", detail));
            }
        }
        self.equal_digests(host, member, view.current_revision())?;
        Ok((index, hash))
    }

    /// Members that hold the same have the same digest at the same revision, or else they would stop serving.
    fn equal_digests(&mut self, host: HostId, member: &Member, revision: Revision) -> Result<(), Violation> {
        let Some(digest) = member.keyspace().digest_at(revision) else { return Ok(()) };
        let (known, other) = *self.digests.entry(revision).or_insert((digest, host));
        if known != digest {
            let detail = format!("at revision {revision} m{host} has digest {digest:016x}, m{other} {known:016x}");
            return Err(Violation::new("equal digests", detail));
        }
        Ok(())
    }
}

/// All entries from `from` on. One read ends with the segment it began in.
fn logged_from(member: &Member, from: u64) -> Result<Vec<LoggedEntry>, String> {
    let mut entries = member.logged(from)?;
    while let Some(last) = entries.last() {
        let more = member.logged(last.index + 1)?;
        if more.is_empty() {
            break;
        }
        entries.extend(more);
    }
    Ok(entries)
}

/// A hash of everything replicated that is true now.
///
/// # Errors
/// If the view cannot be read.
pub fn state_hash(view: &dyn ReadView) -> Result<u32, xebec_store_core::ViewError> {
    let mut hash = 0;
    let mut add = |text: String| hash = crc32c::crc32c_append(hash, text.as_bytes());
    add(format!("{:?} {:?} {:?}", view.current_revision(), view.compacted_revision(), view.cluster_time()));
    add(format!("{:?} {:?}", view.leases()?, view.alarms()));
    add(format!("{:?}", view.cluster_records("")?));
    let everything = KeyRange::from_wire(b"\0".as_slice().into(), b"\0".as_slice().into());
    view.scan(&everything, view.current_revision(), &mut |kv| {
        add(format!("{kv:?}"));
        ControlFlow::Continue(())
    })?;
    Ok(hash)
}
