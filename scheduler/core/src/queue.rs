//! The order in which pods are tried: the most important first, and one that fitted nowhere only when something
//! changed, with growing pauses (upstream `backend/queue`). Time comes in as an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Pause after the first failed attempt (upstream `podInitialBackoffSeconds`).
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause (upstream `podMaxBackoffSeconds`).
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod is tried again after this long even if nothing seems to have changed (upstream `podMaxInUnschedulablePodsDuration`).
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

/// Where a pod waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// To be tried as soon as it is its turn.
    Active,
    /// Until the given time.
    Backoff(Duration),
    /// For a change of the cluster, at most until the given time.
    Change(Duration),
}

struct Entry {
    priority: i32,
    created: i64,
    attempts: u32,
    waiting: Waiting,
    /// Count of changes when its last attempt began.
    seen: u64,
    /// When its last attempt began.
    tried: Duration,
}

type Turn = (Reverse<i32>, i64, String);

/// Pods waiting to be scheduled, by key. Bounded by the number of pending pods.
#[derive(Default)]
pub struct SchedulingQueue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<Turn>,
    timed: BTreeMap<(Duration, String), ()>,
    changes: u64,
}

impl SchedulingQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pod, or one whose spec changed: it is tried at its next turn. `created` orders pods of equal priority.
    pub fn add(&mut self, key: &str, priority: i32, created: i64) {
        let attempts = self.entries.get(key).map_or(0, |entry| entry.attempts);
        self.leave(key);
        let entry =
            Entry { priority, created, attempts, waiting: Waiting::Active, seen: self.changes, tried: Duration::ZERO };
        self.active.insert((Reverse(priority), created, key.to_owned()));
        self.entries.insert(key.to_owned(), entry);
    }

    /// Whether the pod waits here (also while it is being tried).
    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Forgets a pod: bound, deleted, or no longer ours.
    pub fn remove(&mut self, key: &str) {
        self.leave(key);
        self.entries.remove(key);
    }

    /// Something changed that may make room: pods that fitted nowhere are tried again, at the earliest when the pause
    /// after their last attempt is over.
    pub fn changed(&mut self, now: Duration) {
        self.changes += 1;
        let stuck: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.waiting, Waiting::Change(_)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stuck {
            self.retry(&key, now);
        }
    }

    /// The next pod to try, if any is due. It stays known until [`Self::failed`] or [`Self::remove`].
    pub fn pop(&mut self, now: Duration) -> Option<String> {
        while let Some(((at, key), ())) = self.timed.first_key_value().filter(|((at, _), ())| *at <= now) {
            let (at, key) = (*at, key.clone());
            self.timed.remove(&(at, key.clone()));
            self.activate(&key);
        }
        let (_, _, key) = self.active.pop_first()?;
        let changes = self.changes;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.attempts = entry.attempts.saturating_add(1);
            entry.seen = changes;
            entry.tried = now;
        }
        Some(key)
    }

    /// When [`Self::pop`] may have something, if it has nothing now.
    pub fn next_due(&self) -> Option<Duration> {
        self.timed.keys().next().map(|(at, _)| *at)
    }

    /// The attempt failed. `transient` failures (a refused write) are retried after a pause; others wait for a change,
    /// unless one came during the attempt.
    pub fn failed(&mut self, key: &str, transient: bool, now: Duration) {
        let Some(entry) = self.entries.get(key) else { return };
        if transient || entry.seen != self.changes {
            return self.retry(key, now);
        }
        self.wait(key, Waiting::Change(now + UNSCHEDULABLE_MAX), now + UNSCHEDULABLE_MAX);
    }

    /// Keeps a pod that was just added from being tried before a first pause is over.
    pub fn back_off(&mut self, key: &str, now: Duration) {
        self.wait(key, Waiting::Backoff(now + BACKOFF_MIN), now + BACKOFF_MIN);
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn retry(&mut self, key: &str, now: Duration) {
        let Some(entry) = self.entries.get(key) else { return };
        let doublings = entry.attempts.saturating_sub(1).min(10);
        let until = entry.tried + (BACKOFF_MIN * (1 << doublings)).min(BACKOFF_MAX);
        if until <= now {
            self.leave(key);
            self.activate(key);
        } else {
            self.wait(key, Waiting::Backoff(until), until);
        }
    }

    fn wait(&mut self, key: &str, waiting: Waiting, until: Duration) {
        self.leave(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.waiting = waiting;
            self.timed.insert((until, key.to_owned()), ());
        }
    }

    fn activate(&mut self, key: &str) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.waiting = Waiting::Active;
            self.active.insert((Reverse(entry.priority), entry.created, key.to_owned()));
        }
    }

    fn leave(&mut self, key: &str) {
        let Some(entry) = self.entries.get(key) else { return };
        match entry.waiting {
            Waiting::Active => {
                self.active.remove(&(Reverse(entry.priority), entry.created, key.to_owned()));
            }
            Waiting::Backoff(at) | Waiting::Change(at) => {
                self.timed.remove(&(at, key.to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_most_important_and_then_the_oldest_comes_first() {
        let mut queue = SchedulingQueue::new();
        queue.add("young", 0, 20);
        queue.add("old", 0, 10);
        queue.add("important", 5, 30);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(s(0))).collect();
        assert_eq!(order, ["important", "old", "young"]);
    }

    #[test]
    fn a_pod_that_fits_nowhere_waits_for_a_change_and_then_for_its_pause() {
        let mut queue = SchedulingQueue::new();
        queue.add("a", 0, 0);
        assert_eq!(queue.pop(s(0)).as_deref(), Some("a"));
        queue.failed("a", false, s(0));
        assert_eq!(queue.pop(s(100)), None, "nothing changed");
        queue.changed(s(100));
        assert_eq!(queue.pop(s(100)).as_deref(), Some("a"), "the pause is long over");
        queue.changed(s(100));
        queue.failed("a", false, s(100));
        assert_eq!(queue.pop(s(101)), None, "a change during the attempt counts, after a pause of two seconds");
        assert_eq!(queue.pop(s(102)).as_deref(), Some("a"));
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut queue = SchedulingQueue::new();
        queue.add("a", 0, 0);
        assert!(queue.pop(s(0)).is_some());
        queue.failed("a", false, s(0));
        assert_eq!(queue.pop(s(300)).as_deref(), Some("a"));
    }
}
