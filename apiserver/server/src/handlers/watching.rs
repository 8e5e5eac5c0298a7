//! Watch.

use super::read::{revision_of, too_large};
use super::{Call, respond};
use crate::cache::{Cache, Entry, Snapshot};
use crate::http::{Reply, bytes_reply, stream_body};
use crate::watch::{Framing, WatchPlan, stream};
use bytes::Bytes;
use http::StatusCode;
use prometheus_client::metrics::gauge::Gauge;
use rand::RngExt as _;
use std::sync::Arc;
use std::time::Duration;
use xebec_api::Status;
use xebec_apiserver_core::request::ListOptions;

/// Time a watcher waits for the cache, or for a revision that is not there yet.
const CACHE_WAIT: Duration = Duration::from_secs(3);

struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// GET of a collection's changes.
pub async fn watch(call: &Call) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query, true).map_err(super::options_status)?;
    let filter = call.filter(&options)?;
    let since = revision_of(&options.resource_version)?;
    let cache = call.app.objects.cache(&call.served);
    let initial_wanted = options.send_initial_events;
    let synthetic = initial_wanted.unwrap_or(matches!(since, None | Some(0)));
    wait_for(call, &cache, since, synthetic).await?;
    let (content_type, framing, encoder) = respond::watch_encoder(call)?;
    debug_assert!(matches!(framing, Framing::JsonLines | Framing::Protobuf));
    let prefix = call.served.local_prefix(&call.info.namespace);
    let (cursor, initial, revision) = if synthetic {
        let (snapshot, revision, cursor) = cache.snapshot_and_cursor();
        (cursor, initial(&snapshot, &prefix, &filter), revision)
    } else {
        let since = since.unwrap_or(0);
        // sendInitialEvents=false without a version begins now.
        let (snapshot, now, cursor_now) = cache.snapshot_and_cursor();
        drop(snapshot);
        let cursor = if since == 0 { Ok(cursor_now) } else { cache.cursor(since) };
        match cursor {
            Ok(cursor) => (cursor, Vec::new(), now),
            Err(lost) => return Ok(respond::gone_watch(call, since, lost.oldest)),
        }
    };
    call.app.metrics.watches.inc();
    let guard = Counted(call.app.metrics.watches.clone());
    let scoped = {
        let filter = Arc::clone(&filter);
        Arc::new(move |key: &str, entry: &Entry| key.starts_with(prefix.as_str()) && filter(key, entry))
    };
    let plan = WatchPlan {
        cursor,
        initial,
        initial_end: (initial_wanted == Some(true)).then_some(revision),
        bookmarks: options.allow_watch_bookmarks,
        lifetime: lifetime(call, &options),
        filter: scoped,
        encoder,
        stop: call.app.stop.clone(),
        _guard: Box::new(guard),
    };
    let mut reply = bytes_reply(StatusCode::OK, content_type, Bytes::new());
    *reply.body_mut() = stream_body(stream(plan));
    Ok(reply)
}

/// Waits until the cache is as new as the watch needs it.
async fn wait_for(call: &Call, cache: &Cache, since: Option<i64>, synthetic: bool) -> Result<(), Status> {
    let unavailable = || Status::too_many_requests("storage is (re)initializing", 1);
    if !cache.wait(1, CACHE_WAIT).await {
        return Err(unavailable());
    }
    let wanted = match since {
        // "Most recent" means consistent when the state comes along (KEP-3157).
        None if synthetic && cache.is_exact() => call.app.objects.store.current_revision().await?,
        Some(revision) if synthetic || cache.is_exact() => revision,
        _ => return Ok(()),
    };
    let (_, known) = cache.snapshot();
    if wanted <= known || cache.wait(wanted, CACHE_WAIT).await {
        return Ok(());
    }
    let now = call.app.objects.store.current_revision().await?;
    if wanted > now { Err(too_large(wanted, now)) } else { Err(unavailable()) }
}

fn initial(snapshot: &Snapshot, prefix: &str, filter: &super::Filter) -> Vec<Arc<Entry>> {
    snapshot
        .range(Arc::<str>::from(prefix)..)
        .take_while(|(key, _)| key.starts_with(prefix))
        .filter(|(key, entry)| filter(key, entry))
        .map(|(_, entry)| Arc::clone(entry))
        .collect()
}

/// As long as the client wishes, or between once and twice the server's minimum, so that watches do not end together.
fn lifetime(call: &Call, options: &ListOptions) -> Duration {
    let least = call.app.settings.min_watch_seconds.max(1);
    let seconds = options.timeout_seconds.unwrap_or_else(|| rand::rng().random_range(least..=least * 2));
    Duration::from_secs(seconds)
}
