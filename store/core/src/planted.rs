//! Known bugs that simulations and chaos runs plant to see that they find them. Without the feature `planted-bugs`, which
//! nothing that is shipped may enable, all of it comes to nothing.

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
    /// Transactions take the condition that a key was created at a revision, which is what a fence is, for true.
    IgnoreFence,
    /// A member that starts again gives its last revision away once more.
    ReuseRevision,
    /// Votes go to whoever asks, however short its log, and whoever leads.
    VoteForStaleLogs,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SkipFsync,
        Self::AcknowledgeBeforeQuorum,
        Self::StaleRead,
        Self::DropWatchEvent,
        Self::ForgetLease,
        Self::IgnoreFence,
        Self::ReuseRevision,
        Self::VoteForStaleLogs,
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
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Whether this build can plant bugs at all.
pub const BUGS_CAN_BE_PLANTED: bool = cfg!(feature = "planted-bugs");

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::OnceLock<PlantedBug> = std::sync::OnceLock::new();

/// Plants a bug in this process, before anything else happens in it; only the first one counts.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: PlantedBug) {
    PLANTED.get_or_init(|| bug);
}

/// Whether this bug is planted here.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is_planted(bug: PlantedBug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// Never: this build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn is_planted(_bug: PlantedBug) -> bool {
    false
}
