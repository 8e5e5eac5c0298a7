//! The watch cache: one per resource, fed by one watch of the store, started when first used.
//!
//! Readers take constant-time snapshots; watchers hold cursors into one shared, bounded window of events. A watcher that
//! falls behind the window is ended, never skipped over (kubernetes `apiserver/pkg/storage/cacher` has the same contract).

mod entry;
mod feed;
mod window;

pub use entry::{Decode, Entry, Event};
pub use window::{Batch, Cursor, CursorLost};

use crate::store::Store;
use imbl::OrdMap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use window::Window;

/// Interval at which a waiting reader asks the store how far the watch is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Keys (behind the resource's prefix) to entries, in key order.
pub type Snapshot = OrdMap<Arc<str>, Arc<Entry>>;

/// What one cache follows and how it reads it.
pub struct Source {
    /// Full prefix in the store, ending in a slash.
    pub prefix: String,
    /// Reads a stored value.
    pub decode: Decode,
}

/// The cache of one resource.
pub struct Cache {
    source: Source,
    state: Mutex<Window>,
    revision: watch::Sender<i64>,
    progress_wanted: Notify,
    exact: AtomicBool,
}

impl Cache {
    fn new(source: Source) -> Self {
        let (revision, _) = watch::channel(0);
        Self {
            source,
            state: Mutex::new(Window::default()),
            revision,
            progress_wanted: Notify::new(),
            exact: AtomicBool::new(false),
        }
    }

    /// The objects and the revision at which they are true; 0: not filled yet.
    pub fn snapshot(&self) -> (Snapshot, i64) {
        let state = self.state.lock();
        (state.snapshot.clone(), state.revision)
    }

    /// Waits until everything up to `revision` is in the cache (1: until it is filled); `false` after `limit`.
    pub async fn wait(&self, revision: i64, limit: Duration) -> bool {
        let mut changes = self.revision.subscribe();
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if *changes.borrow_and_update() >= revision.max(1) {
                return true;
            }
            self.request_progress();
            let pause = (tokio::time::Instant::now() + PROGRESS_INTERVAL).min(deadline);
            match tokio::time::timeout_at(pause, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return false,
                Err(_) if tokio::time::Instant::now() >= deadline => return *changes.borrow() >= revision.max(1),
                Err(_) => {}
            }
        }
    }

    /// Whether a reader can wait for any revision, changes of other resources included. Where the store cannot say how
    /// far a watch is, consistent reads have to go to the store.
    pub fn is_exact(&self) -> bool {
        self.exact.load(Ordering::Acquire)
    }

    /// Asks the store how far the watch is; the answer arrives as a new revision.
    pub fn request_progress(&self) {
        if self.is_exact() {
            self.progress_wanted.notify_one();
        }
    }

    /// A cursor behind `since`, if the window still knows everything after it.
    pub fn cursor(self: &Arc<Self>, since: i64) -> Result<Cursor, CursorLost> {
        let next = self.state.lock().position_after(since)?;
        Ok(Cursor::new(Arc::clone(self), next, self.revision.subscribe()))
    }

    /// The objects now and a cursor that continues exactly there.
    pub fn snapshot_and_cursor(self: &Arc<Self>) -> (Snapshot, i64, Cursor) {
        let state = self.state.lock();
        let cursor = Cursor::new(Arc::clone(self), state.end(), self.revision.subscribe());
        (state.snapshot.clone(), state.revision, cursor)
    }
}

/// All caches of an API server.
pub struct Caches {
    store: Arc<Store>,
    stop: CancellationToken,
    running: Mutex<HashMap<String, Arc<Cache>>>,
}

impl Caches {
    /// No cache runs yet.
    pub fn new(store: Arc<Store>, stop: CancellationToken) -> Self {
        Self { store, stop, running: Mutex::new(HashMap::new()) }
    }

    /// The cache of a prefix, started if need be.
    pub fn cache(&self, prefix: &str, decode: impl FnOnce() -> Decode) -> Arc<Cache> {
        let mut running = self.running.lock();
        if let Some(cache) = running.get(prefix) {
            return Arc::clone(cache);
        }
        let cache = Arc::new(Cache::new(Source { prefix: prefix.to_owned(), decode: decode() }));
        running.insert(prefix.to_owned(), Arc::clone(&cache));
        let (fed, store, stop) = (Arc::clone(&cache), Arc::clone(&self.store), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = feed::feed(fed, store) => {}
            }
        });
        cache
    }

    /// Number of objects in each running cache, by prefix.
    pub fn sizes(&self) -> Vec<(String, usize)> {
        let running = self.running.lock();
        running.iter().map(|(prefix, cache)| (prefix.clone(), cache.snapshot().0.len())).collect()
    }
}

#[cfg(test)]
mod tests;
