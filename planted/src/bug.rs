//! The bugs.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// The log reports entries as flushed without an fsync.
    SkipFsync,
    /// The leader answers a proposal before a majority has it.
    AcknowledgeBeforeQuorum,
    /// A leader serves linearizable reads without asking whether it still leads, as if it had a lease on leading.
    StaleRead,
    /// A watcher misses an event now and then.
    DropWatchEvent,
    /// A new leader overlooks a lease.
    ForgetLease,
    /// The store's transactions take the condition that a key was created at a revision, which is what a fence is, for true.
    IgnoreFence,
    /// A member that starts again gives its last revision away once more.
    ReuseRevision,
    /// Votes go to whoever asks, however short its log, and whoever leads.
    VoteForStaleLogs,
    /// The API server binds a pod without the condition that nobody changed it since it was found unbound.
    ForgetBindingPrecondition,
    /// The API server leaves the fence of a leader's write out of the store transaction.
    IgnoreFencingToken,
    /// The API server's watch cache misses an event now and then.
    DropCacheEvent,
    /// The API server answers consistent reads out of its cache without bringing it up to the store first.
    StaleCacheRead,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SkipFsync,
        Self::AcknowledgeBeforeQuorum,
        Self::StaleRead,
        Self::DropWatchEvent,
        Self::ForgetLease,
        Self::IgnoreFence,
        Self::ReuseRevision,
        Self::VoteForStaleLogs,
        Self::ForgetBindingPrecondition,
        Self::IgnoreFencingToken,
        Self::DropCacheEvent,
        Self::StaleCacheRead,
    ];

    /// What it is called on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipFsync => "skip-fsync",
            Self::AcknowledgeBeforeQuorum => "acknowledge-before-quorum",
            Self::StaleRead => "stale-read",
            Self::DropWatchEvent => "drop-watch-event",
            Self::ForgetLease => "forget-lease",
            Self::IgnoreFence => "ignore-fence",
            Self::ReuseRevision => "reuse-revision",
            Self::VoteForStaleLogs => "vote-for-stale-logs",
            Self::ForgetBindingPrecondition => "forget-binding-precondition",
            Self::IgnoreFencingToken => "ignore-fencing-token",
            Self::DropCacheEvent => "drop-cache-event",
            Self::StaleCacheRead => "stale-cache-read",
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::PlantedBug;

    #[test]
    fn names_are_unique() {
        for bug in PlantedBug::ALL {
            assert_eq!(PlantedBug::named(bug.name()), Some(bug));
        }
    }
}
