//! Known bugs that a simulation plants to see that it finds them. Without the feature `planted-bugs`, which nothing that
//! is shipped may enable, all of it comes to nothing.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// The log reports entries as flushed without an fsync.
    SkipFsync,
    /// The leader answers a proposal before a majority has it.
    AcknowledgeBeforeQuorum,
    /// A leader serves linearizable reads without asking whether it still leads.
    StaleRead,
    /// A watcher misses an event now and then.
    DropWatchEvent,
    /// A new leader overlooks a lease.
    ForgetLease,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::SkipFsync, Self::AcknowledgeBeforeQuorum, Self::StaleRead, Self::DropWatchEvent, Self::ForgetLease];
}

/// Whether this build can plant bugs at all.
pub const BUGS_CAN_BE_PLANTED: bool = cfg!(feature = "planted-bugs");

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<PlantedBug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in all that runs on this thread.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: PlantedBug) {
    PLANTED.with(|planted| planted.set(Some(bug)));
}

/// Whether this bug is planted here.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is_planted(bug: PlantedBug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Never: this build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn is_planted(_bug: PlantedBug) -> bool {
    false
}
