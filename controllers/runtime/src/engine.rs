//! The one engine all controllers run on: keys from the caches, a queue, observe, reconcile, act.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use xebec_client::{ObjectKey, Queue};
use xebec_controllers_core::{Action, Failure};

use crate::{
    context::Context,
    execute::{Error, Executor, Written},
};

/// How long one attempt waits for the caches to show this process's own writes.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// After this long a write that no cache shows is forgotten: it was undone before a relist could show it.
const WRITE_REMEMBERED_MAX: Duration = Duration::from_secs(30);

/// A decision that needs the API server's answers.
pub(crate) type Observing<'a> = BoxFuture<'a, Result<Vec<Action>, kube::Error>>;

/// What a controller decides on.
pub(crate) enum Decide {
    /// The caches alone.
    Cached(fn(&Context, &ObjectKey, Option<Failure>) -> Vec<Action>),
    /// The caches, and what the API server says when asked.
    Live(for<'a> fn(&'a Context, &'a Executor, &'a ObjectKey) -> Observing<'a>),
}

/// One controller: a row of the table.
pub(crate) struct Controller {
    /// Upstream's name, as in `--controllers`.
    pub(crate) name: &'static str,
    /// Caches that must be complete before it decides anything.
    pub(crate) synced: for<'a> fn(&'a Context) -> BoxFuture<'a, ()>,
    /// Which changes wake which keys.
    pub(crate) wake: fn(&Arc<Context>, &Queue<ObjectKey>),
    /// Every key there is, for the start of a leadership.
    pub(crate) keys: fn(&Context) -> Vec<ObjectKey>,
    /// Observe and reconcile.
    pub(crate) decide: Decide,
    /// Whether keys may be worked on at the same time.
    pub(crate) concurrent: bool,
}

#[derive(Default)]
struct Memory {
    /// Own writes per key.
    writes: HashMap<ObjectKey, (Instant, Vec<Written>)>,
    /// Why a key failed last.
    failures: HashMap<ObjectKey, Failure>,
}

/// A controller with its queue, which outlives leaderships: on a master that does not lead it collects the keys that
/// changed, each once.
pub(crate) struct Loop {
    row: &'static Controller,
    context: Arc<Context>,
    queue: Queue<ObjectKey>,
    memory: Mutex<Memory>,
}

impl Loop {
    pub(crate) fn new(row: &'static Controller, context: &Arc<Context>) -> Arc<Self> {
        let queue = Queue::new();
        (row.wake)(context, &queue);
        Arc::new(Self { row, context: Arc::clone(context), queue, memory: Mutex::default() })
    }

    /// Works until `stop`. Work under way is dropped then; the fence has fallen already.
    pub(crate) async fn lead(self: Arc<Self>, executor: Executor, workers: usize, stop: CancellationToken) {
        let work = async {
            (self.row.synced)(&self.context).await;
            // An earlier leadership of this process may have ended in the middle of a key. What it wrote is still
            // waited for.
            self.memory.lock().failures.clear();
            for key in (self.row.keys)(&self.context) {
                self.queue.add(key);
            }
            let workers = if self.row.concurrent { workers.max(1) } else { 1 };
            futures::future::join_all((0..workers).map(|_| self.work(&executor))).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Wakes a key.
    #[cfg(test)]
    pub(crate) fn poke(&self, key: ObjectKey) {
        self.queue.add(key);
    }

    async fn work(&self, executor: &Executor) {
        while let Some(item) = self.queue.next().await {
            let key = (*item).clone();
            match self.attempt(executor, &key).await {
                Ok(wake) => {
                    self.queue.forget(&key);
                    if let Some(after) = wake {
                        self.queue.add_after(key, after);
                    }
                }
                Err(error) => {
                    let pause = self.queue.add_rate_limited(key.clone());
                    if error.is_ordinary() {
                        tracing::debug!(controller = self.row.name, %key, %error, ?pause, "again");
                    } else {
                        tracing::warn!(controller = self.row.name, %key, %error, ?pause, "retrying");
                    }
                }
            }
        }
    }

    async fn attempt(&self, executor: &Executor, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let before = self.memory.lock().writes.remove(key);
        if let Some((at, writes)) = before
            && !self.context.world.catch_up(&writes, CATCH_UP_MAX).await
            && at.elapsed() < WRITE_REMEMBERED_MAX
        {
            self.memory.lock().writes.insert(key.clone(), (at, writes));
            return Err(Error::Behind);
        }
        let failure = self.memory.lock().failures.remove(key);
        let actions =
            match self.row.decide {
                Decide::Cached(decide) => decide(&self.context, key, failure),
                Decide::Live(decide) => decide(&self.context, executor, key).await.map_err(|source| {
                    Error::Request { action: "observe".to_owned(), failure: None, source: Box::new(source) }
                })?,
            };
        if actions.is_empty() {
            return Ok(None);
        }
        tracing::debug!(controller = self.row.name, %key, ?actions, "reconciling");
        let done = executor.run(actions).await;
        let mut memory = self.memory.lock();
        if !done.written.is_empty() {
            memory.writes.insert(key.clone(), (Instant::now(), done.written));
        }
        if let Err(Error::Request { failure: Some(failure), .. }) = &done.result {
            memory.failures.insert(key.clone(), (**failure).clone());
        }
        done.result.map(|()| done.wake)
    }
}
