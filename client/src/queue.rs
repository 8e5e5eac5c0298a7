//! A deduplicating work queue with delays and rate-limited retries, with the semantics of client-go's
//! `util/workqueue`: a key added while it is being processed is handed out again afterwards, never twice at once.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pause before the first retry of a key; it doubles with every failure
/// (client-go `DefaultTypedControllerRateLimiter`).
pub const RETRY_MIN: Duration = Duration::from_millis(5);
/// Longest pause between retries of a key. Shorter than upstream's 1000 s: a cluster that recovers should not wait
/// a quarter of an hour for its controllers.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a successful reconciliation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until the next change.
    Done,
    /// To be called again after this time.
    After(Duration),
}

/// The queue. Clones share it. The number of entries is bounded by the number of distinct keys.
pub struct Queue<K>(Arc<Shared<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    closed: CancellationToken,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Everything that waits to be handed out, in `ready` or until its processing ends.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    /// The earliest due time per delayed key; heap entries that disagree are stale.
    due: HashMap<K, Instant>,
    delayed: BinaryHeap<Reverse<Due<K>>>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

struct Due<K> {
    at: Instant,
    sequence: u64,
    key: K,
}

impl<K> PartialEq for Due<K> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}
impl<K> Eq for Due<K> {}
impl<K> PartialOrd for Due<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Due<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) || self.processing.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Moves what is due to `ready`; says when the next one is due.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(first)) = self.delayed.peek() {
            let stale = self.due.get(&first.key) != Some(&first.at);
            if !stale && first.at > now {
                return Some(first.at);
            }
            if let Some(Reverse(entry)) = self.delayed.pop()
                && !stale
            {
                self.due.remove(&entry.key);
                self.add(entry.key);
            }
        }
        None
    }
}

impl<K: Clone + Eq + Hash + Send + Debug + 'static> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Send + Debug + 'static> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            due: HashMap::new(),
            delayed: BinaryHeap::new(),
            failures: HashMap::new(),
            sequence: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new(), closed: CancellationToken::new() }))
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        if self.0.state.lock().add(key) {
            self.0.wake.notify_one();
        }
    }

    /// Adds a key after `delay`; of several delays of a key the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        {
            let mut state = self.0.state.lock();
            if state.due.get(&key).is_some_and(|due| *due <= at) {
                return;
            }
            state.due.insert(key.clone(), at);
            state.sequence += 1;
            let sequence = state.sequence;
            state.delayed.push(Reverse(Due { at, sequence, key }));
        }
        self.0.wake.notify_one();
    }

    /// Adds a key after its retry pause, and counts a failure; returns the pause.
    pub fn add_rate_limited(&self, key: K) -> Duration {
        let pause = {
            let mut state = self.0.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let pause = RETRY_MIN.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(RETRY_MAX);
            *failures = failures.saturating_add(1);
            pause
        };
        self.add_after(key, pause);
        pause
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// How often a key has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.0.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// How many keys are ready to be handed out.
    pub fn len(&self) -> usize {
        self.0.state.lock().ready.len()
    }

    /// Whether none is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the queue: [`Queue::next`] returns `None` from now on.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Waits for the next key. It counts as being processed until the [`Item`] is dropped.
    pub async fn next(&self) -> Option<Item<K>> {
        loop {
            if self.0.closed.is_cancelled() {
                return None;
            }
            let (item, more, due) = self.take();
            if more {
                self.0.wake.notify_one();
            }
            if item.is_some() {
                return item;
            }
            let deadline = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.closed.cancelled() => return None,
                () = self.0.wake.notified() => {}
                () = deadline => {}
            }
        }
    }

    fn take(&self) -> (Option<Item<K>>, bool, Option<Instant>) {
        let mut state = self.0.state.lock();
        let due = state.advance(Instant::now());
        let item = state.ready.pop_front().map(|key| {
            state.dirty.remove(&key);
            state.processing.insert(key.clone());
            Item { key, queue: self.clone() }
        });
        // Whoever takes an item passes the watch over the next deadline on as well, for it may be the only waiter.
        let more = item.is_some() && (!state.ready.is_empty() || due.is_some());
        (item, more, due)
    }

    /// Runs `reconcile` for each key until `stop`, at most `concurrency` at a time; failures are logged and retried with
    /// growing pauses. Work in progress is cancelled at `stop`.
    pub async fn run<F, Fut, E>(&self, name: &'static str, concurrency: usize, stop: CancellationToken, reconcile: F)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Outcome, E>>,
        E: std::fmt::Display,
    {
        let workers = (0..concurrency.max(1)).map(|_| self.work(name, &reconcile));
        tokio::select! {
            () = stop.cancelled() => self.close(),
            _ = futures::future::join_all(workers) => {}
        }
    }

    async fn work<F, Fut, E>(&self, name: &'static str, reconcile: &F)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Outcome, E>>,
        E: std::fmt::Display,
    {
        while let Some(item) = self.next().await {
            match reconcile(item.key.clone()).await {
                Ok(outcome) => {
                    self.forget(&item.key);
                    if let Outcome::After(delay) = outcome {
                        self.add_after(item.key.clone(), delay);
                    }
                }
                Err(error) => {
                    let pause = self.add_rate_limited(item.key.clone());
                    let failures = self.failures(&item.key);
                    tracing::warn!(queue = name, key = ?item.key, %error, failures, ?pause, "retrying");
                }
            }
        }
    }
}

/// A key being processed; dropping it ends the processing.
pub struct Item<K: Clone + Eq + Hash + Send + Debug + 'static> {
    key: K,
    queue: Queue<K>,
}

impl<K: Clone + Eq + Hash + Send + Debug + 'static> std::ops::Deref for Item<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Clone + Eq + Hash + Send + Debug + 'static> Drop for Item<K> {
    fn drop(&mut self) {
        let again = {
            let mut state = self.queue.0.state.lock();
            state.processing.remove(&self.key);
            let again = state.dirty.contains(&self.key);
            if again {
                state.ready.push_back(self.key.clone());
            }
            again
        };
        if again {
            self.queue.0.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_being_processed_is_handed_out_again_only_afterwards() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        let first = queue.next().await.unwrap();
        assert!(queue.is_empty(), "added twice, handed out once");
        queue.add("a");
        assert!(queue.is_empty(), "not while it is processed");
        drop(first);
        assert_eq!(*queue.next().await.unwrap(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts_and_is_handed_out_once() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(7));
        queue.add_after("b", Duration::from_secs(20));
        drop(queue.next().await.unwrap());
        assert_eq!(start.elapsed().as_secs(), 3);
        assert_eq!(*queue.next().await.unwrap(), "b");
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_slow_down_up_to_the_bound_and_are_forgotten_on_success() {
        let queue = Queue::new();
        let pauses: Vec<_> = (0..40).map(|_| queue.add_rate_limited("a")).collect();
        assert_eq!(pauses[0], RETRY_MIN);
        assert_eq!(pauses[3], RETRY_MIN * 8);
        assert_eq!(pauses[39], RETRY_MAX);
        queue.forget(&"a");
        assert_eq!(queue.add_rate_limited("a"), RETRY_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn two_waiters_share_one_deadline_each() {
        let queue = Queue::new();
        queue.add_after(1, Duration::from_secs(1));
        queue.add_after(2, Duration::from_secs(2));
        let (a, b) = tokio::join!(queue.next(), queue.next());
        let mut keys = [*a.unwrap(), *b.unwrap()];
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_wakes_waiters() {
        let queue: Queue<u8> = Queue::new();
        let closing = async { queue.close() };
        let (item, ()) = tokio::join!(queue.next(), closing);
        assert!(item.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_reconciliation_is_retried_until_it_works() {
        let queue = Queue::new();
        queue.add("a");
        let (calls, stop) = (Mutex::new(0), CancellationToken::new());
        let attempt = |_| {
            *calls.lock() += 1;
            let done = *calls.lock() == 4;
            if done {
                stop.cancel();
            }
            async move { if done { Ok(Outcome::Done) } else { Err("not yet") } }
        };
        queue.run("test", 2, stop.clone(), attempt).await;
        assert_eq!(*calls.lock(), 4);
    }
}
