use std::collections::{BTreeMap, BTreeSet};

use crate::{Applied, ClusterTime, Lease, LeaseDeadline, LeaseId, Write};

/// How far a deadline in the leader's memory may run ahead of the replicated one, and so how much longer than granted
/// a lease may live when the leader changes. A keep-alive that would exceed it waits for a checkpoint.
pub const PROMOTION_EXTENSION_MILLIS_MAX: u64 = 10_000;

/// How far a deadline runs ahead before a checkpoint is suggested, so that keep-alives seldom wait.
const CHECKPOINT_LAG_MILLIS: u64 = PROMOTION_EXTENSION_MILLIS_MAX / 2;

/// How old the replicated time may become while there are leases.
const STAMP_AGE_MILLIS_MAX: u64 = 30_000;

/// Leases that one revocation of expired leases names at most (etcd revokes 1,000 a second).
pub const EXPIRY_BATCH_LEASES_MAX: usize = 1_000;

/// Deadlines that one checkpoint carries at most (etcd `maxLeaseCheckpointBatchSize`).
pub const CHECKPOINT_BATCH_LEASES_MAX: usize = 1_000;

/// The answer to a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Renewed in memory; answer with the TTL.
    Renewed {
        /// The TTL.
        ttl_seconds: i64,
    },
    /// Renewed in memory, but a new leader would not honour it yet: propose this deadline in a
    /// [`LeaseCheckpoint`](crate::LeaseCheckpoint) (many share one) and answer when it has been applied.
    RenewedAfterCheckpoint {
        /// The TTL.
        ttl_seconds: i64,
        /// What to replicate first.
        checkpoint: LeaseDeadline,
    },
    /// No such lease, or it has expired and its revocation is under way: answer TTL 0.
    NotFound,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ttl_seconds: i64,
    deadline: ClusterTime,
    /// The deadline that the log has.
    replicated: ClusterTime,
    /// Its revocation was handed out and has not been applied.
    expiring: bool,
}

impl Entry {
    fn ttl_millis(&self) -> u64 {
        u64::try_from(self.ttl_seconds).unwrap_or(0).saturating_mul(1_000)
    }

    /// The latest deadline that a new leader is sure to honour.
    fn honoured(&self) -> ClusterTime {
        self.replicated.plus_millis(PROMOTION_EXTENSION_MILLIS_MAX)
    }
}

/// The leader's leases: deadlines in memory, moved by keep-alives without a log entry each.
///
/// Invariant: a keep-alive is answered only if the deadline it promises is at most
/// [`PROMOTION_EXTENSION_MILLIS_MAX`] behind the replicated one. A new leader adds that much to every replicated deadline
/// (never more than a full TTL from its promotion), so it cannot expire a lease whose keep-alives it did not see.
///
/// A keep-alive must be answered by the leader of the moment only: the caller confirms leadership, as for a read.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    leases: BTreeMap<LeaseId, Entry>,
    by_deadline: BTreeSet<(ClusterTime, LeaseId)>,
    /// The latest replicated time.
    stamp: ClusterTime,
}

impl LeaseTable {
    /// The table of a leader promoted at `now`, from the leases of its view.
    pub fn promoted(now: ClusterTime, leases: impl IntoIterator<Item = Lease>) -> LeaseTable {
        let mut table = LeaseTable { stamp: now, ..LeaseTable::default() };
        for lease in leases {
            table.insert(&lease, now);
        }
        table
    }

    /// Follows a command that was applied while this member leads, at `now`.
    pub fn observe(&mut self, applied: &Applied, now: ClusterTime) {
        for write in &applied.writes {
            match write {
                Write::LeaseSet(lease) => match self.leases.get_mut(&lease.id) {
                    Some(entry) => entry.replicated = entry.replicated.max(lease.deadline),
                    None => self.insert(lease, now),
                },
                Write::LeaseRemove(id) => self.remove(*id),
                Write::ClusterTime(time) => self.stamp = self.stamp.max(*time),
                _ => {}
            }
        }
    }

    /// Renews a lease.
    pub fn keep_alive(&mut self, id: LeaseId, now: ClusterTime) -> KeepAlive {
        let Some(entry) = self.leases.get_mut(&id) else { return KeepAlive::NotFound };
        if entry.expiring || entry.deadline <= now {
            return KeepAlive::NotFound;
        }
        self.by_deadline.remove(&(entry.deadline, id));
        entry.deadline = entry.deadline.max(now.plus_millis(entry.ttl_millis()));
        self.by_deadline.insert((entry.deadline, id));
        let ttl_seconds = entry.ttl_seconds;
        // A new leader gives at least a full TTL to nobody, but never less than what is honoured.
        if entry.deadline <= entry.honoured() {
            KeepAlive::Renewed { ttl_seconds }
        } else {
            let checkpoint = LeaseDeadline { id, deadline: entry.deadline };
            KeepAlive::RenewedAfterCheckpoint { ttl_seconds, checkpoint }
        }
    }

    /// The granted TTL and the whole seconds left, if the lease is alive (etcd `LeaseTimeToLive`).
    pub fn time_to_live(&self, id: LeaseId, now: ClusterTime) -> Option<(i64, i64)> {
        let entry = self.leases.get(&id).filter(|entry| !entry.expiring && entry.deadline > now)?;
        let left_seconds = entry.deadline.millis_since(now) / 1_000;
        Some((entry.ttl_seconds, i64::try_from(left_seconds).unwrap_or(i64::MAX)))
    }

    /// Leases that have expired and are to be revoked by one command, at most [`EXPIRY_BATCH_LEASES_MAX`]. Each is
    /// handed out once; if the revocation fails, give it back with [`LeaseTable::expiry_failed`].
    pub fn expired(&mut self, now: ClusterTime) -> Vec<LeaseId> {
        let mut ids = Vec::new();
        while ids.len() < EXPIRY_BATCH_LEASES_MAX {
            let Some(&(deadline, id)) = self.by_deadline.first().filter(|(deadline, _)| *deadline <= now) else {
                break;
            };
            self.by_deadline.remove(&(deadline, id));
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.expiring = true;
            }
            ids.push(id);
        }
        ids
    }

    /// A revocation was not committed: the leases are handed out again.
    pub fn expiry_failed(&mut self, ids: &[LeaseId]) {
        for id in ids {
            if let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.expiring) {
                entry.expiring = false;
                self.by_deadline.insert((entry.deadline, *id));
            }
        }
    }

    /// Deadlines worth replicating now, at most [`CHECKPOINT_BATCH_LEASES_MAX`]; `None` if there is no reason for a
    /// checkpoint. An empty list is a reason: the replicated time alone has grown too old. Ask about once a second.
    pub fn checkpoint(&self, now: ClusterTime) -> Option<Vec<LeaseDeadline>> {
        let deadlines: Vec<LeaseDeadline> = self
            .leases
            .iter()
            .filter(|(_, entry)| {
                !entry.expiring && entry.deadline.millis_since(entry.replicated) > CHECKPOINT_LAG_MILLIS
            })
            .take(CHECKPOINT_BATCH_LEASES_MAX)
            .map(|(id, entry)| LeaseDeadline { id: *id, deadline: entry.deadline })
            .collect();
        let stamp_is_old = !self.leases.is_empty() && now.millis_since(self.stamp) > STAMP_AGE_MILLIS_MAX;
        (!deadlines.is_empty() || stamp_is_old).then_some(deadlines)
    }

    /// The earliest deadline, for a timer.
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are no leases.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn insert(&mut self, lease: &Lease, now: ClusterTime) {
        let mut entry =
            Entry { ttl_seconds: lease.ttl_seconds, deadline: now, replicated: lease.deadline, expiring: false };
        // Also for a new grant: the time it spent in the log is given back, as etcd counts from the apply.
        entry.deadline = entry.honoured().min(now.plus_millis(entry.ttl_millis()));
        self.by_deadline.insert((entry.deadline, lease.id));
        self.leases.insert(lease.id, entry);
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(entry) = self.leases.remove(&id) {
            self.by_deadline.remove(&(entry.deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, ttl_seconds: i64, deadline_millis: u64) -> Lease {
        Lease { id: LeaseId(id), ttl_seconds, deadline: ClusterTime(deadline_millis) }
    }

    fn applied(writes: Vec<Write>) -> Applied {
        Applied {
            revision: crate::Revision(1),
            result: Ok(crate::Response::LeaseCheckpoint),
            writes,
            events: Vec::new(),
        }
    }

    #[test]
    fn a_short_lease_lives_a_full_ttl_after_promotion_and_a_long_one_ends_when_replicated_plus_the_bound() {
        let now = ClusterTime(100_000);
        let mut table = LeaseTable::promoted(now, [lease(1, 2, 95_000), lease(2, 3_600, 101_000)]);
        assert_eq!(table.time_to_live(LeaseId(1), now), Some((2, 2)));
        assert_eq!(table.time_to_live(LeaseId(2), now), Some((3_600, 11)));
        assert_eq!(table.expired(ClusterTime(101_999)), vec![]);
        assert_eq!(table.expired(ClusterTime(102_000)), vec![LeaseId(1)]);
        assert_eq!(table.expired(ClusterTime(102_000)), vec![], "handed out once");
        assert_eq!(table.keep_alive(LeaseId(1), ClusterTime(102_000)), KeepAlive::NotFound);
        table.expiry_failed(&[LeaseId(1)]);
        assert_eq!(table.expired(ClusterTime(102_000)), vec![LeaseId(1)]);
        table.observe(&applied(vec![Write::LeaseRemove(LeaseId(1))]), ClusterTime(102_001));
        assert_eq!(table.len(), 1);
        assert_eq!(table.expired(ClusterTime(111_000)), vec![LeaseId(2)]);
    }

    #[test]
    fn a_keep_alive_beyond_the_bound_waits_for_a_checkpoint() {
        let mut table = LeaseTable::default();
        table.observe(&applied(vec![Write::LeaseSet(lease(7, 60, 60_000))]), ClusterTime(0));
        assert_eq!(table.keep_alive(LeaseId(7), ClusterTime(9_000)), KeepAlive::Renewed { ttl_seconds: 60 });
        assert_eq!(
            table.checkpoint(ClusterTime(9_000)),
            Some(vec![LeaseDeadline { id: LeaseId(7), deadline: ClusterTime(69_000) }])
        );
        let checkpoint = LeaseDeadline { id: LeaseId(7), deadline: ClusterTime(80_000) };
        assert_eq!(
            table.keep_alive(LeaseId(7), ClusterTime(20_000)),
            KeepAlive::RenewedAfterCheckpoint { ttl_seconds: 60, checkpoint }
        );
        table.observe(
            &applied(vec![Write::ClusterTime(ClusterTime(20_000)), Write::LeaseSet(lease(7, 60, 80_000))]),
            ClusterTime(20_001),
        );
        assert_eq!(table.checkpoint(ClusterTime(20_001)), None);
        assert_eq!(table.keep_alive(LeaseId(7), ClusterTime(20_001)), KeepAlive::Renewed { ttl_seconds: 60 });
        assert_eq!(table.checkpoint(ClusterTime(50_001)), Some(vec![]), "the stamp has grown old");
    }

    #[test]
    fn expiries_come_in_bounded_batches() {
        let leases = (1..=1_500).map(|id| lease(id, 1, 0));
        let mut table = LeaseTable::promoted(ClusterTime(0), leases);
        let later = ClusterTime(1_000);
        assert_eq!(table.expired(later).len(), EXPIRY_BATCH_LEASES_MAX);
        assert_eq!(table.expired(later).len(), 500);
        assert_eq!(table.next_deadline(), None);
    }
}
