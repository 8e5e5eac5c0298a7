//! Get and list.

use super::continuation::Continuation;
use super::{Call, respond};
use crate::cache::{Entry, Snapshot};
use crate::http::{Reply, expired};
use crate::store::prefix_end;
use std::sync::Arc;
use std::time::Duration;
use xebec_api::Status;
use xebec_apiserver_core::request::{ListOptions, ResourceVersionMatch};
use xebec_planted::{PlantedBug, is_planted};

/// Time a consistent read waits for the cache before it goes to the store itself.
const CACHE_WAIT: Duration = Duration::from_millis(1000);
/// Time a reader waits for a revision that is not there yet (upstream: 3 s).
const FUTURE_WAIT: Duration = Duration::from_secs(3);
/// Objects read from the store at once.
const STORE_PAGE_KEYS: i64 = 500;

/// Part of a collection.
pub struct Listed {
    /// Objects in key order.
    pub entries: Vec<Arc<Entry>>,
    /// Revision at which they are true.
    pub revision: i64,
    /// Token for the rest.
    pub rest: String,
    /// Objects in the rest, where that is known.
    pub remaining: Option<usize>,
}

/// GET of one object.
pub async fn get(call: &Call) -> Result<Reply, Status> {
    let (served, name) = (&call.served, call.info.name.as_str());
    let not_found = || Status::not_found(&served.row.resource, name);
    if call.query.get("resourceVersion") == Some("0") || is_planted(PlantedBug::StaleCacheRead) {
        let cache = call.app.objects.cache(served);
        if cache.wait(1, CACHE_WAIT).await {
            let key = served.local_key(&call.info.namespace, name);
            let entry = cache.snapshot().0.get(key.as_str()).cloned().ok_or_else(not_found)?;
            return respond::entry(call, &entry);
        }
    }
    let stored = call.app.objects.get_entry(served, &call.info.namespace, name).await?.ok_or_else(not_found)?;
    if let Some(wanted) = call.query.get("resourceVersion").filter(|version| !version.is_empty()) {
        revision_of(wanted)?;
    }
    respond::entry(call, &stored)
}

/// GET of a collection.
pub async fn list(call: &Call) -> Result<Reply, Status> {
    let options = ListOptions::parse(&call.query, false).map_err(super::options_status)?;
    let listed = collect(call, &options).await?;
    respond::list(call, &listed)
}

/// The objects of a collection as the options want them.
pub async fn collect(call: &Call, options: &ListOptions) -> Result<Listed, Status> {
    let filter = call.filter(options)?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    if !options.continue_token.is_empty() {
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Continuation::decode(&options.continue_token)?;
        let page = Page { filter: &filter, limit, start: token.start(), revision: token.revision().max(0) };
        return from_store(call, page).await;
    }
    let wanted = revision_of(&options.resource_version)?.or(is_planted(PlantedBug::StaleCacheRead).then_some(0));
    let exact = options.resource_version_match == Some(ResourceVersionMatch::Exact)
        || (options.resource_version_match.is_none() && limit > 0 && wanted.is_some_and(|revision| revision > 0));
    if let (true, Some(revision)) = (exact, wanted) {
        return from_store(call, Page { filter: &filter, limit, start: "", revision }).await;
    }
    let cache = call.app.objects.cache(&call.served);
    match wanted {
        Some(0) => {
            if !cache.wait(1, FUTURE_WAIT).await {
                return from_store(call, Page { filter: &filter, limit, start: "", revision: 0 }).await;
            }
        }
        Some(revision) => {
            if !cache.wait(revision, FUTURE_WAIT).await {
                let now = call.app.objects.store.current_revision().await?;
                if revision > now {
                    return Err(too_large(revision, now));
                }
                return from_store(call, Page { filter: &filter, limit, start: "", revision: 0 }).await;
            }
        }
        None => {
            let consistent = cache.is_exact() && {
                let now = call.app.objects.store.current_revision().await?;
                cache.wait(now, CACHE_WAIT).await
            };
            if !consistent {
                return from_store(call, Page { filter: &filter, limit, start: "", revision: 0 }).await;
            }
        }
    }
    let (snapshot, revision) = cache.snapshot();
    Ok(from_snapshot(call, &snapshot, revision, &filter, limit))
}

fn from_snapshot(call: &Call, snapshot: &Snapshot, revision: i64, filter: &super::Filter, limit: usize) -> Listed {
    let prefix = call.served.local_prefix(&call.info.namespace);
    let range = snapshot.range(Arc::<str>::from(prefix.as_str())..).take_while(|(key, _)| key.starts_with(&prefix));
    let mut matching = range.filter(|(key, entry)| filter(key, entry));
    let mut listed = Listed { entries: Vec::new(), revision, rest: String::new(), remaining: None };
    let mut last = None;
    for (key, entry) in matching.by_ref() {
        listed.entries.push(Arc::clone(entry));
        if limit > 0 && listed.entries.len() == limit {
            last = Some(Arc::clone(key));
            break;
        }
    }
    if let Some(last) = last {
        let remaining = matching.count();
        if remaining > 0 {
            listed.rest = Continuation::after(revision, &last[prefix.len()..]).encode();
            // With a selector upstream does not say how many remain.
            listed.remaining = (!call.has_selector()).then_some(remaining);
        }
    }
    listed
}

struct Page<'a> {
    filter: &'a super::Filter,
    limit: usize,
    start: &'a str,
    revision: i64,
}

/// Reads from the store itself: old revisions, further pages, and whenever the cache is behind.
async fn from_store(call: &Call, page: Page<'_>) -> Result<Listed, Status> {
    let objects = &call.app.objects;
    let local = call.served.local_prefix(&call.info.namespace);
    let prefix = format!("{}{local}", objects.prefix_of(&call.served));
    let end = prefix_end(prefix.as_bytes());
    let mut start = format!("{prefix}{}", page.start).into_bytes();
    let mut listed = Listed { entries: Vec::new(), revision: page.revision, rest: String::new(), remaining: None };
    loop {
        let read = objects.store.list(&start, &end, STORE_PAGE_KEYS, listed.revision).await;
        let read = read.map_err(|error| match error {
            crate::store::StoreError::Compacted => expired(),
            error => error.into(),
        })?;
        if listed.revision == 0 {
            listed.revision = read.revision;
        }
        let mut left = usize::try_from(read.count).unwrap_or(0);
        for kv in &read.kvs {
            left = left.saturating_sub(1);
            let key = String::from_utf8_lossy(&kv.key);
            let Some(key) = key.strip_prefix(&objects.prefix_of(&call.served)) else { continue };
            let entry = objects.entry(&call.served, key, &kv.value, kv.mod_revision)?;
            if !(page.filter)(key, &entry) {
                continue;
            }
            listed.entries.push(Arc::new(entry));
            if page.limit > 0 && listed.entries.len() == page.limit && left > 0 {
                listed.rest = Continuation::after(listed.revision, key.strip_prefix(&local).unwrap_or(key)).encode();
                listed.remaining = (!call.has_selector()).then_some(left);
                return Ok(listed);
            }
        }
        match read.kvs.last() {
            Some(last) if read.more => {
                start = last.key.to_vec();
                start.push(0);
            }
            _ => return Ok(listed),
        }
    }
}

/// A resourceVersion as a revision; `None`: not given.
pub fn revision_of(version: &str) -> Result<Option<i64>, Status> {
    if version.is_empty() {
        return Ok(None);
    }
    let invalid = || {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
        ))
    };
    version.parse::<i64>().ok().filter(|revision| *revision >= 0).map(Some).ok_or_else(invalid)
}

/// 504 of a revision that is not there yet, in upstream's words.
pub fn too_large(wanted: i64, current: i64) -> Status {
    let mut status = Status::timeout(&format!("Too large resource version: {wanted}, current: {current}"), 1);
    status = status.with_cause(xebec_api::status::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    });
    status
}
