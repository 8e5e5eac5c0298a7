//! How the disk behaves at the moment.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What is wrong with a disk; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Every sync takes between so long and twice as long.
    pub sync_delay: Duration,
    /// Every write takes so long.
    pub write_delay: Duration,
    /// No space is left: what takes new space fails with `ENOSPC`.
    pub full: bool,
    /// Every sync fails with `EIO`, and what it should have saved is never saved.
    pub sync_fails: bool,
}

/// The conditions, and those who wait for better ones.
#[derive(Debug, Default)]
pub(crate) struct Present {
    now: Mutex<(Conditions, u64)>,
    changed: Condvar,
    failures: AtomicU64,
}

impl Present {
    fn lock(&self) -> MutexGuard<'_, (Conditions, u64)> {
        self.now.lock().expect("nobody panics with the conditions")
    }

    pub(crate) fn get(&self) -> Conditions {
        self.lock().0
    }

    /// Whoever waits under the old conditions goes on at once.
    pub(crate) fn set(&self, conditions: Conditions) {
        let mut now = self.lock();
        *now = (conditions, now.1 + 1);
        self.changed.notify_all();
    }

    /// Waits so long, or until the conditions change.
    pub(crate) fn endure(&self, delay: Duration) {
        let now = self.lock();
        let since = now.1;
        drop(self.changed.wait_timeout_while(now, delay, |now| now.1 == since));
    }

    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often anything has failed on purpose since this was asked last.
    pub(crate) fn take_failures(&self) -> u64 {
        self.failures.swap(0, Ordering::Relaxed)
    }
}
