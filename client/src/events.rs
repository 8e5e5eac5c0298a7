//! Events about objects: recorded without waiting, written in the background, repeated ones counted.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure;

/// Events waiting to be written; beyond it the oldest is dropped and counted.
pub const PENDING_EVENTS_MAX: usize = 1_000;
/// Events remembered for counting repetitions (client-go `maxLruCacheEntries`).
const REMEMBERED_EVENTS_MAX: usize = 4_096;
/// A repetition after this long is a new event (client-go `defaultAggregateIntervalInSeconds`).
const REMEMBER: Duration = Duration::from_secs(600);
/// Longest message, in bytes (validation limit of `events.k8s.io`).
const MESSAGE_BYTES_MAX: usize = 1_024;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Nothing to worry about.
    Normal,
    /// Something to look at.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events. Clones share the queue; never blocks.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    component: String,
    host: String,
    pending: Mutex<VecDeque<Note>>,
    wake: Notify,
    dropped: AtomicU64,
    stop: CancellationToken,
}

struct Note {
    regarding: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: jiff::Timestamp,
}

/// What makes two events the same (client-go `getEventKey`).
#[derive(PartialEq, Eq, Hash, Clone)]
struct Sameness(String, String, String, String);

struct Written {
    namespace: String,
    name: String,
    count: i32,
    last: Instant,
}

impl Recorder {
    /// A recorder that writes through `client` as `component` (for example `default-scheduler`) on `host` until `stop`.
    pub fn start(client: Client, component: &str, host: &str, stop: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            component: component.to_owned(),
            host: host.to_owned(),
            pending: Mutex::default(),
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
            stop,
        });
        tokio::spawn(write_all(shared.clone(), client));
        Self(shared)
    }

    /// Records an event about an object of a static kind.
    pub fn event<K>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_on(object.object_ref(&()), kind, reason, message);
    }

    /// Records an event about whatever `regarding` names.
    pub fn event_on(&self, regarding: ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        }
        let note = Note { regarding, kind, reason: reason.to_owned(), message, at: jiff::Timestamp::now() };
        {
            let mut pending = self.0.pending.lock();
            if pending.len() >= PENDING_EVENTS_MAX {
                pending.pop_front();
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
            pending.push_back(note);
        }
        self.0.wake.notify_one();
    }

    /// How many events were dropped because too many waited: the metric `events_dropped_total`.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

async fn write_all(shared: Arc<Shared>, client: Client) {
    let mut written: HashMap<Sameness, Written> = HashMap::new();
    loop {
        let note = shared.pending.lock().pop_front();
        let Some(note) = note else {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = shared.wake.notified() => continue,
            }
        };
        let writing = write(&shared, &client, &note, &mut written);
        let result = tokio::select! {
            () = shared.stop.cancelled() => return,
            result = writing => result,
        };
        if let Err(error) = result {
            // Events are best effort: one that cannot be written is told here and forgotten.
            let object = note.regarding.name.as_deref().unwrap_or_default();
            tracing::debug!(%error, object, reason = note.reason, message = note.message, "event not written");
        }
    }
}

async fn write(
    shared: &Shared,
    client: &Client,
    note: &Note,
    written: &mut HashMap<Sameness, Written>,
) -> Result<(), kube::Error> {
    let regarding = &note.regarding;
    let sameness = Sameness(
        format!("{:?}/{:?}/{:?}", regarding.kind, regarding.uid, regarding.field_path),
        format!("{:?}/{:?}", regarding.namespace, regarding.name),
        note.reason.clone(),
        note.message.clone(),
    );
    if let Some(earlier) = written.get_mut(&sameness)
        && earlier.last.elapsed() < REMEMBER
    {
        earlier.count = earlier.count.saturating_add(1);
        earlier.last = Instant::now();
        let events: Api<Event> = Api::namespaced(client.clone(), &earlier.namespace);
        let patch = serde_json::json!({ "count": earlier.count, "lastTimestamp": Time(note.at) });
        match events.patch(&earlier.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            // It has expired on the server; below it is written anew.
            Err(error) if failure::is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let event = build(shared, note);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    events.create(&PostParams::default(), &event).await?;
    if written.len() >= REMEMBERED_EVENTS_MAX {
        written.retain(|_, earlier| earlier.last.elapsed() < REMEMBER / 10);
        if written.len() >= REMEMBERED_EVENTS_MAX {
            written.clear();
        }
    }
    written.insert(sameness, Written { namespace, name, count: 1, last: Instant::now() });
    Ok(())
}

fn build(shared: &Shared, note: &Note) -> Event {
    // Events about objects of the cluster's scope live in "default", as upstream's recorder puts them.
    let namespace = note.regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let object = note.regarding.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", note.at.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: note.regarding.clone(),
        type_: Some(note.kind.as_str().to_owned()),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        source: Some(EventSource {
            component: Some(shared.component.clone()),
            host: Some(shared.host.clone()).filter(|host| !host.is_empty()),
        }),
        reporting_component: Some(shared.component.clone()),
        reporting_instance: Some(shared.host.clone()),
        ..Event::default()
    }
}
