//! Feeds a cache from list and watch.

use futures::StreamExt;
use kube::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Cached};

/// First pause after a failed list or watch.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause. Short, because a cache that is behind holds up everything built on it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Doubling pauses between the bounds. The spread over clients comes from their failing at different times.
struct Pauses(Duration);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF_MAX);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = BACKOFF_MIN;
    }
}

pub(crate) async fn run<K: Cached>(
    api: Api<K>,
    config: watcher::Config,
    strip: Box<dyn Fn(&mut K) + Send + Sync>,
    cache: Cache<K>,
    stop: CancellationToken,
) {
    let mut events = std::pin::pin!(watcher(api, config).backoff(Pauses(BACKOFF_MIN)));
    let mut listing = Vec::new();
    let kind = K::kind(&());
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                tracing::warn!(%kind, %error, "watch interrupted, resuming");
                continue;
            }
            None => return,
        };
        let event = event.modify(|object| {
            object.meta_mut().managed_fields = None;
            strip(object);
        });
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(object) => listing.push(object),
            watcher::Event::InitDone => cache.replace(std::mem::take(&mut listing)),
            watcher::Event::Apply(object) => cache.apply(object),
            watcher::Event::Delete(object) => cache.remove(&crate::key::ObjectKey::of(&object)),
        }
    }
}
