//! Informers: list, watch, resume, list again when the history is gone, as client-go's reflector does. Each belongs to one
//! API server, so that every server's watch cache is looked at.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use futures::StreamExt as _;
use http::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_chaos_core::history::{Event, KeyEvent, WatchMessage, WatchStep};

use super::{
    KINDS, Kind, World,
    facts::{facts, name, revision},
    world::Cache,
};
use crate::{
    api::{ApiClient, Outcome},
    run::Recorder,
};

/// A watch that says nothing for so long is opened again from where it stands.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Before a watch is opened again.
const RESUME_PAUSE: Duration = Duration::from_millis(100);
/// The server ends a watch after so long, in seconds.
const WATCH_SECONDS: u64 = 30;

/// Starts an informer for every kind at every server. Ends with `stop`.
pub fn watch_all(
    apis: &[(String, ApiClient)],
    namespace: &str,
    world: &Arc<World>,
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    for (server, api) in apis {
        for kind in KINDS {
            let informer = Informer {
                name: format!("{server}@{}", kind.prefix(namespace)),
                collection: kind.collection(namespace),
                prefix: kind.prefix(namespace),
                api: api.clone(),
                world: Arc::clone(world),
                recorder: Arc::clone(recorder),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = informer.run() => {}
                }
            });
        }
    }
}

/// All objects of a kind, and the resourceVersion at which that was true.
pub(super) async fn list(api: &ApiClient, kind: Kind, namespace: &str) -> Result<(u64, Cache)> {
    read_list(api, &kind.collection(namespace), &kind.prefix(namespace)).await
}

async fn read_list(api: &ApiClient, collection: &str, prefix: &str) -> Result<(u64, Cache)> {
    let list = match api.get(collection).await {
        Outcome::Done(list) => list,
        other => bail!("cannot list {collection}: {other:?}"),
    };
    let Some(version) = revision(&list) else { bail!("a list of {collection} has no resourceVersion") };
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let entry = |item: &Value| Some((format!("{prefix}{}", name(item)), (revision(item)?, facts(item))));
    Ok((version, items.iter().filter_map(entry).collect()))
}

struct Informer {
    /// `m1@pods/chaos/`: also the name of its cache.
    name: String,
    collection: String,
    prefix: String,
    api: ApiClient,
    world: Arc<World>,
    recorder: Arc<Recorder>,
}

impl Informer {
    async fn run(&self) {
        let mut known = None;
        loop {
            let from = match known {
                Some(version) => version,
                None => match read_list(&self.api, &self.collection, &self.prefix).await {
                    Ok((version, content)) => {
                        self.world.replace(&self.name, content);
                        version
                    }
                    Err(error) => {
                        tracing::debug!(%error, informer = self.name, "no list");
                        tokio::time::sleep(RESUME_PAUSE).await;
                        continue;
                    }
                },
            };
            known = self.watch(from).await;
            tokio::time::sleep(RESUME_PAUSE).await;
        }
    }

    fn say(&self, step: WatchStep) {
        let time = self.recorder.now();
        self.recorder.record(&Event::Watch(WatchMessage { time, watcher: self.name.clone(), step }));
    }

    fn close(&self, reason: &str) {
        self.say(WatchStep::Close { reason: reason.to_owned() });
    }

    /// Watches until it ends; from where to resume, or `None` to list again.
    async fn watch(&self, from: u64) -> Option<u64> {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={WATCH_SECONDS}",
            self.collection
        );
        self.say(WatchStep::Open { prefix: self.prefix.clone(), from: from + 1, prev_kv: false });
        let mut lines = match self.api.stream(Method::GET, &path).await {
            Ok(lines) => lines,
            Err(kube::Error::Api(status)) if status.code == 410 => {
                self.say(WatchStep::Compacted { revision: 0 });
                return None;
            }
            Err(error) => {
                self.close(&error.to_string());
                return Some(from);
            }
        };
        let mut version = from;
        loop {
            let line = match tokio::time::timeout(SILENCE_MAX, lines.next()).await {
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(error))) => {
                    self.close(&error.to_string());
                    return Some(version);
                }
                Ok(None) => {
                    self.close("the stream ended");
                    return Some(version);
                }
                Err(_) => {
                    self.close("it says nothing");
                    return Some(version);
                }
            };
            match self.take(&line) {
                Taken::Version(next) => version = next,
                Taken::Gone => return None,
                Taken::Torn => {
                    self.close("a line that is no event");
                    return Some(version);
                }
            }
        }
    }

    fn take(&self, line: &str) -> Taken {
        // A connection that breaks cuts its last line.
        let Ok(event) = serde_json::from_str::<Value>(line) else { return Taken::Torn };
        let object = &event["object"];
        let (kind, version) = (event["type"].as_str().unwrap_or_default(), revision(object));
        match (kind, version) {
            ("BOOKMARK", Some(revision)) => {
                self.say(WatchStep::Progress { revision });
                Taken::Version(revision)
            }
            ("ADDED" | "MODIFIED" | "DELETED", Some(revision)) => {
                let (key, facts) = (format!("{}{}", self.prefix, name(object)), facts(object));
                let there = kind != "DELETED";
                let value = there.then(|| serde_json::to_string(&facts).unwrap_or_default());
                let told = KeyEvent {
                    key: key.clone(),
                    value,
                    mod_revision: revision,
                    create_revision: if kind == "ADDED" { revision } else { 0 },
                    uid: (!there).then(|| facts.uid.clone()),
                    ..KeyEvent::default()
                };
                // Shown to those who wait only after it is recorded.
                self.say(WatchStep::Events { revision, events: vec![told] });
                self.world.apply(&self.name, &key, there.then_some((revision, facts)));
                Taken::Version(revision)
            }
            _ => {
                // 410 Gone, or an error that tells us no more than to begin again.
                self.say(WatchStep::Compacted { revision: 0 });
                Taken::Gone
            }
        }
    }
}

enum Taken {
    Version(u64),
    Gone,
    Torn,
}
