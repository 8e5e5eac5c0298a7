//! Filling a cache from the store and following its changes.

use super::{Cache, Event, Snapshot};
use crate::store::{Store, StoreError, StoreEvent, StoreWatch, WatchItem, prefix_end};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use xebec_planted::{PlantedBug, is_planted};

/// Objects read at once while filling.
const PAGE_KEYS: i64 = 500;
/// A cache starts this many revisions in the past, so that watchers which come from another API server can resume.
const HISTORY_REVISIONS: i64 = 1000;
/// Pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A watch that does not answer a progress request within this time counts as broken.
const SILENCE_MAX: Duration = Duration::from_secs(2);

enum Ended {
    Compacted,
    Broken(StoreError),
}

/// Feeds `cache` for ever.
pub(super) async fn feed(cache: Arc<Cache>, store: Arc<Store>) {
    loop {
        match fill(&cache, &store).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(prefix = cache.source.prefix, %error, "cache: cannot read the store");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        }
        loop {
            match follow(&cache, &store).await {
                Ended::Compacted => break,
                Ended::Broken(error) => {
                    tracing::debug!(prefix = cache.source.prefix, %error, "cache: watch ended, resuming");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        tracing::info!(prefix = cache.source.prefix, "cache: history was compacted, reading everything anew");
    }
}

async fn fill(cache: &Cache, store: &Store) -> Result<(), StoreError> {
    let now = store.current_revision().await?;
    let exact = store.has_exact_progress().await?;
    cache.exact.store(exact, Ordering::Release);
    // Without exact progress nobody could tell when the replay of the history is over.
    let past = if exact { (now - HISTORY_REVISIONS).max(1) } else { now };
    let (snapshot, revision) = match read_all(cache, store, past).await {
        Err(StoreError::Compacted) => read_all(cache, store, now).await?,
        other => other?,
    };
    cache.state.lock().reset(snapshot, revision);
    // The revision is announced only when the watch has caught up, since readers want the present.
    if revision == now {
        cache.revision.send_replace(revision);
    }
    Ok(())
}

async fn read_all(cache: &Cache, store: &Store, revision: i64) -> Result<(Snapshot, i64), StoreError> {
    let mut snapshot = Snapshot::default();
    let end = prefix_end(cache.source.prefix.as_bytes());
    let mut start = cache.source.prefix.as_bytes().to_vec();
    loop {
        let page = store.list(&start, &end, PAGE_KEYS, revision).await?;
        for kv in &page.kvs {
            let Some(key) = key_of(cache, &kv.key) else { continue };
            if let Some(entry) = decode(cache, &key, &kv.value, kv.mod_revision) {
                snapshot.insert(key, entry);
            }
        }
        match page.kvs.last() {
            Some(last) if page.more => {
                start = last.key.to_vec();
                start.push(0);
            }
            _ => return Ok((snapshot, revision)),
        }
    }
}

async fn follow(cache: &Cache, store: &Store) -> Ended {
    let start = cache.state.lock().revision + 1;
    let mut watch = match store.watch(&cache.source.prefix, start).await {
        Ok(watch) => watch,
        Err(error) => return Ended::Broken(error),
    };
    if cache.is_exact() {
        watch.request_progress();
    }
    let ended = pump(cache, &mut watch).await;
    if matches!(ended, Ended::Broken(_)) {
        store.watch_failed(&watch);
    }
    ended
}

async fn pump(cache: &Cache, watch: &mut StoreWatch) -> Ended {
    let mut answer_due: Option<tokio::time::Instant> = None;
    if cache.is_exact() {
        answer_due = Some(tokio::time::Instant::now() + SILENCE_MAX);
    }
    loop {
        let silence = async {
            match answer_due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            item = watch.next() => {
                answer_due = None;
                match item {
                    Ok(WatchItem::Events(events)) => apply(cache, events),
                    Ok(WatchItem::Progress(revision)) => advance(cache, revision),
                    Ok(WatchItem::Compacted) => return Ended::Compacted,
                    Err(error) => return Ended::Broken(error),
                }
            }
            () = cache.progress_wanted.notified() => {
                watch.request_progress();
                answer_due.get_or_insert_with(|| tokio::time::Instant::now() + SILENCE_MAX);
            }
            () = silence => return Ended::Broken(StoreError::Unavailable("the watch fell silent".into())),
        }
    }
}

fn apply(cache: &Cache, events: Vec<StoreEvent>) {
    let Some(last) = events.last().map(|event| event.kv.mod_revision) else { return };
    let mut state = cache.state.lock();
    for event in events {
        let revision = event.kv.mod_revision;
        // A resumed watch may repeat what is known already.
        if revision <= state.revision || is_lost(&event) {
            continue;
        }
        let Some(key) = key_of(cache, &event.kv.key) else { continue };
        let previous = state.snapshot.get(&key).cloned();
        if event.deleted {
            if previous.is_some() {
                state.push(Event::new(revision, key, None, previous));
            }
        } else if let Some(entry) = decode(cache, &key, &event.kv.value, revision) {
            state.push(Event::new(revision, key, Some(entry), previous));
        }
    }
    state.revision = state.revision.max(last);
    let revision = state.revision;
    drop(state);
    cache.revision.send_replace(revision);
}

/// The planted bug: a change in fifty is passed over. Creations are not, or the cluster's own objects might never come to be.
fn is_lost(event: &StoreEvent) -> bool {
    let is_change = !event.deleted && event.kv.create_revision < event.kv.mod_revision;
    is_planted(PlantedBug::DropCacheEvent) && is_change && event.kv.mod_revision % 50 == 7
}

fn advance(cache: &Cache, revision: i64) {
    let mut state = cache.state.lock();
    state.revision = state.revision.max(revision);
    let revision = state.revision;
    drop(state);
    cache.revision.send_if_modified(|known| {
        let grows = revision > *known;
        *known = revision.max(*known);
        grows
    });
}

fn key_of(cache: &Cache, key: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(key).ok()?.strip_prefix(cache.source.prefix.as_str()).map(Arc::from)
}

fn decode(cache: &Cache, key: &str, value: &Bytes, revision: i64) -> Option<Arc<super::Entry>> {
    match (cache.source.decode)(key, value, revision) {
        Ok(entry) => Some(Arc::new(entry)),
        Err(error) => {
            tracing::error!(prefix = cache.source.prefix, key, revision, error, "cache: stored object cannot be read");
            None
        }
    }
}
