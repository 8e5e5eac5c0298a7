//! From a cursor over the cache to the chunks of one client's watch.

use super::frame::{EventType, FrameEncoder};
use crate::cache::{Batch, Cursor, Entry, Event};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use xebec_api::Status;

/// Interval of bookmarks (upstream: about a minute).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(55);
/// Time before its end at which a watch gets a last bookmark, so that its successor begins as late as possible.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Which objects a client wants to see.
pub type Filter = Arc<dyn Fn(&str, &Entry) -> bool + Send + Sync>;

/// One client's watch.
pub struct WatchPlan {
    /// Where it continues.
    pub cursor: Cursor,
    /// Objects shown as ADDED before anything else.
    pub initial: Vec<Arc<Entry>>,
    /// Revision at which `initial` is true, if a bookmark is to mark its end (KEP-3157).
    pub initial_end: Option<i64>,
    /// Whether bookmarks are sent.
    pub bookmarks: bool,
    /// When the server ends the watch.
    pub lifetime: Duration,
    /// What the client wants to see.
    pub filter: Filter,
    /// How it wants to see it.
    pub encoder: FrameEncoder,
    /// Ends the watch early.
    pub stop: tokio_util::sync::CancellationToken,
    /// Held as long as the watch lasts.
    pub _guard: Box<dyn Send>,
}

struct Watcher {
    plan: WatchPlan,
    bookmarks: Interval,
    deadline: Instant,
    /// When the last bookmark is due, as long as it is.
    last_bookmark: Option<Instant>,
    bookmarked: i64,
    begun: bool,
    ended: bool,
}

/// The chunks of the watch; each holds whole frames.
pub fn stream(plan: WatchPlan) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = Instant::now() + plan.lifetime;
    let last_bookmark =
        plan.lifetime.checked_sub(LAST_BOOKMARK).filter(|_| plan.bookmarks).map(|at| Instant::now() + at);
    let watcher = Watcher { plan, bookmarks, deadline, last_bookmark, bookmarked: 0, begun: false, ended: false };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.chunk().await?;
        Some((chunk, watcher))
    })
}

impl Watcher {
    /// The next chunk; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        if !self.begun {
            self.begun = true;
            self.begin(&mut out);
            if !out.is_empty() {
                return Some(out.freeze());
            }
        }
        loop {
            tokio::select! {
                biased;
                () = self.plan.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.deadline) => return None,
                batch = self.plan.cursor.next() => match batch {
                    Ok(batch) => self.show(&batch, &mut out),
                    Err(lost) => {
                        self.ended = true;
                        let status = Status::expired(format!("too old resource version: the watch fell behind ({})", lost.oldest));
                        self.plan.encoder.error(&status, &mut out);
                    }
                },
                _ = self.bookmarks.tick(), if self.plan.bookmarks => self.bookmark(&mut out),
                () = at(self.last_bookmark) => {
                    self.last_bookmark = None;
                    self.bookmark(&mut out);
                }
            }
            if !out.is_empty() {
                return Some(out.freeze());
            }
        }
    }

    fn begin(&mut self, out: &mut BytesMut) {
        for entry in std::mem::take(&mut self.plan.initial) {
            self.plan.encoder.event(EventType::Added, &entry, out);
        }
        if let Some(revision) = self.plan.initial_end {
            self.plan.encoder.bookmark(revision, true, out);
        }
    }

    fn show(&mut self, batch: &Batch, out: &mut BytesMut) {
        for event in &batch.events {
            if let Some((kind, entry)) = seen(event, &self.plan.filter) {
                self.plan.encoder.event(kind, &entry, out);
            }
        }
    }

    /// Says how far the watch is, and has the store asked so that the next bookmark is fresh even on a quiet resource.
    fn bookmark(&mut self, out: &mut BytesMut) {
        if let Some(revision) = self.plan.cursor.seen().filter(|revision| *revision > self.bookmarked) {
            self.bookmarked = revision;
            self.plan.encoder.bookmark(revision, false, out);
        }
        self.plan.cursor.request_progress();
    }
}

/// At that time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What a change is to somebody who sees only what `filter` passes (apiserver `cacher/cache_watcher.go`).
fn seen(event: &Event, filter: &Filter) -> Option<(EventType, Arc<Entry>)> {
    let passes = |entry: &Option<Arc<Entry>>| entry.as_ref().filter(|entry| filter(&event.key, entry)).cloned();
    match (passes(&event.previous), passes(&event.current)) {
        (None, None) => None,
        (None, Some(current)) => Some((EventType::Added, current)),
        (Some(_), Some(current)) => Some((EventType::Modified, current)),
        (Some(_), None) => event.gone().map(|gone| (EventType::Deleted, gone)),
    }
}
