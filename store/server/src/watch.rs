//! The Watch service: a task per stream, a cursor per watcher.
//!
//! A slow client fills its own response queue and then holds up its own task, nobody else: events stay in the shared
//! log, and what falls out of it is read from disk later.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
};

use bytes::Bytes;
use futures::Stream;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xebec_planted::{PlantedBug, is_planted};
use xebec_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
    watch_server::Watch,
};
use xebec_store_core::{Delivery, KeyRange, ReadView, Revision, WatchCursor, WatchSpec, WatchStep};
use xebec_store_disk::CatchUp;

use crate::{
    auth::{Credentials, Demand, watch_refusal},
    context::{Context, blocking},
    convert, fragments,
    status::{self, IntoStatus},
};

/// Responses that wait for a slow client.
const RESPONSES_AHEAD_MAX: usize = 16;
/// Bytes that a fragment may have beyond the largest request (etcd `config.MaxRequestBytesWithOverhead`).
const FRAGMENT_OVERHEAD_BYTES: usize = 512 * 1024;
/// Watchers one stream may have.
const WATCHERS_MAX: usize = 100_000;
/// The id of responses that belong to no watcher (etcd `clientv3.InvalidWatchID`).
const NO_WATCH_ID: i64 = -1;

pub(crate) struct WatchService(pub Context);

struct Watcher {
    cursor: WatchCursor,
    progress_notify: bool,
    /// Whether the client takes a response in several parts.
    fragment: bool,
    /// Whether anything was sent since the last periodic progress.
    is_fresh: bool,
}

/// The client is gone, or must be told that the stream ends.
enum End {
    Gone,
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

struct WatchStream {
    context: Context,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
    watchers: BTreeMap<i64, Watcher>,
    /// Watchers that compaction cancelled: as in etcd, their ids are taken until the client cancels them itself.
    compacted: BTreeSet<i64>,
    next_id: i64,
    revisions: watch::Receiver<Revision>,
    credentials: Credentials,
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.check_leader(request.metadata())?;
        let (tx, rx) = mpsc::channel(RESPONSES_AHEAD_MAX);
        let stream = WatchStream {
            context: self.0.clone(),
            responses: tx,
            watchers: BTreeMap::new(),
            compacted: BTreeSet::new(),
            next_id: 0,
            revisions: self.0.member.feed().revisions(),
            credentials: Credentials::of(&request),
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}

impl WatchStream {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        self.context.metrics.watch_streams.inc();
        let end = self.serve(&mut requests).await;
        self.context.metrics.watch_streams.dec();
        self.context.metrics.watchers.dec_by(self.watchers.len() as i64);
        if let Err(End::Failed(status)) = end
            && self.responses.send(Err(status)).await.is_err()
        {
            tracing::debug!("a watching client was gone already");
        }
    }

    async fn serve(&mut self, requests: &mut Streaming<WatchRequest>) -> Result<(), End> {
        let interval = self.context.limits.progress_interval;
        let mut progress_at = Instant::now() + interval;
        let mut requests_open = true;
        let stopped = self.context.member.stopped().clone();
        loop {
            tokio::select! {
                request = requests.message(), if requests_open => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    // etcd keeps sending to a client that closed its side.
                    Ok(None) => requests_open = false,
                    Err(_) => return Err(End::Gone),
                },
                changed = self.revisions.changed() => {
                    changed.map_err(|_| status::stopped())?;
                    self.pump().await?;
                }
                () = sleep_until(progress_at), if self.watchers.values().any(|watcher| watcher.progress_notify) => {
                    progress_at = Instant::now() + interval;
                    self.periodic_progress().await?;
                }
                () = self.responses.closed() => return Err(End::Gone),
                () = stopped.cancelled() => return Err(status::stopped().into()),
            }
        }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), End> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
            None => Ok(()),
        }
    }

    fn current(&self) -> Revision {
        self.context.member.feed().with_events(|events| events.current_revision())
    }

    fn response(&self, watch_id: i64, revision: Revision) -> WatchResponse {
        WatchResponse { header: Some(self.context.header(revision)), watch_id, ..WatchResponse::default() }
    }

    async fn send(&self, response: WatchResponse) -> Result<(), End> {
        self.responses.send(Ok(response)).await.map_err(|_| End::Gone)
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), End> {
        // An empty key means the first key there can be (etcd `v3rpc/watch.go`).
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
        let range = KeyRange::from_wire(key.clone(), request.range_end.clone());
        let is_empty = matches!(&range, KeyRange::Span { start, end } if start >= end);
        // etcd looks at the revision first. It checks when the watch is made, and never again.
        if request.start_revision < 0 {
            return self.refuse(status::COMPACTED).await;
        }
        let permitted = match self.context.check_health() {
            Ok(()) => self.context.authorize(&self.credentials, Demand::Read(&range)).await.map(drop),
            corrupt => corrupt,
        };
        if let Err(status) = permitted {
            return self.refuse(&watch_refusal(&status)).await;
        }
        let refusal = if is_empty {
            Some(status::EMPTY_WATCH_RANGE)
        } else if request.watch_id != 0 && self.is_taken(request.watch_id) {
            Some(status::DUPLICATE_WATCH_ID)
        } else if self.watchers.len() + self.compacted.len() >= WATCHERS_MAX {
            Some("etcdserver: too many requests")
        } else {
            None
        };
        let current = self.current();
        if let Some(reason) = refusal {
            return self.refuse(reason).await;
        }
        let watch_id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        let spec = WatchSpec {
            range,
            start_revision: Revision(request.start_revision),
            no_put: request.filters().any(|filter| filter == FilterType::Noput),
            no_delete: request.filters().any(|filter| filter == FilterType::Nodelete),
            prev_kv: request.prev_kv,
        };
        let watcher = Watcher {
            cursor: WatchCursor::new(spec, current),
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            is_fresh: false,
        };
        self.watchers.insert(watch_id, watcher);
        self.context.metrics.watchers.inc();
        let mut response = self.response(watch_id, current);
        response.created = true;
        self.send(response).await?;
        self.pump_one(watch_id).await.map(|_| ())
    }

    async fn refuse(&self, reason: &str) -> Result<(), End> {
        let mut response = self.response(NO_WATCH_ID, self.current());
        (response.created, response.canceled, response.cancel_reason) = (true, true, reason.to_owned());
        self.send(response).await
    }

    fn is_taken(&self, watch_id: i64) -> bool {
        self.watchers.contains_key(&watch_id) || self.compacted.contains(&watch_id)
    }

    fn free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    async fn cancel(&mut self, watch_id: i64) -> Result<(), End> {
        if self.remove(watch_id) || self.compacted.remove(&watch_id) {
            let mut response = self.response(watch_id, self.current());
            response.canceled = true;
            self.send(response).await?;
        }
        Ok(())
    }

    fn remove(&mut self, watch_id: i64) -> bool {
        let removed = self.watchers.remove(&watch_id).is_some();
        if removed {
            self.context.metrics.watchers.dec();
        }
        removed
    }

    /// Brings every watcher up to date.
    async fn pump(&mut self) -> Result<(), End> {
        let ids: Vec<i64> = self.watchers.keys().copied().collect();
        for id in ids {
            self.pump_one(id).await?;
        }
        Ok(())
    }

    /// Sends a watcher everything there is for it. Answers how far it then is, if it has begun at all.
    async fn pump_one(&mut self, watch_id: i64) -> Result<Option<Revision>, End> {
        let bytes_max = self.context.limits.request_bytes_max;
        loop {
            let keyspace = self.context.member.keyspace();
            let compacted = keyspace.view().compacted_revision();
            let Some(watcher) = self.watchers.get_mut(&watch_id) else {
                return Ok(None);
            };
            let feed = self.context.member.feed();
            match feed.with_events(|events| watcher.cursor.poll(events, compacted, bytes_max)) {
                WatchStep::Deliver(delivery) => self.deliver(watch_id, delivery).await?,
                WatchStep::CatchUp { from, to } => self.catch_up(watch_id, from, to).await?,
                WatchStep::Compacted { compact_revision } => {
                    self.cancel_compacted(watch_id, compact_revision).await?;
                    return Ok(None);
                }
                WatchStep::Synced { revision } => return Ok(Some(revision)),
                WatchStep::Future => return Ok(None),
            }
        }
    }

    async fn deliver(&mut self, watch_id: i64, delivery: Delivery) -> Result<(), End> {
        let mut fragment = false;
        if let Some(watcher) = self.watchers.get_mut(&watch_id) {
            watcher.is_fresh = true;
            fragment = watcher.fragment;
        }
        let mut response = self.response(watch_id, delivery.revision);
        let is_dropped = |revision: Revision| is_planted(PlantedBug::DropWatchEvent) && revision.0 % 50 == 7;
        let events = delivery.events.into_iter().filter(|event| !is_dropped(event.kv.mod_revision));
        response.events = events.map(convert::event).collect();
        if !fragment {
            return self.send(response).await;
        }
        for part in fragments::split(response, self.context.limits.request_bytes_max + FRAGMENT_OVERHEAD_BYTES) {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn catch_up(&mut self, watch_id: i64, from: Revision, to: Revision) -> Result<(), End> {
        let Some(watcher) = self.watchers.get(&watch_id) else {
            return Ok(());
        };
        let bytes_max = self.context.limits.request_bytes_max;
        let range = watcher.cursor.spec().range.clone();
        let keyspace = self.context.member.keyspace().clone();
        let read = blocking(move || keyspace.events(from, to, &range, bytes_max).map_err(IntoStatus::into_status));
        match read.await? {
            CatchUp::Compacted { compact_revision } => self.cancel_compacted(watch_id, compact_revision).await,
            CatchUp::Events { events, through } => {
                let watcher = self.watchers.get_mut(&watch_id);
                let delivery = watcher.and_then(|watcher| watcher.cursor.catch_up(&events, through));
                match delivery {
                    Some(delivery) => self.deliver(watch_id, delivery).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn cancel_compacted(&mut self, watch_id: i64, compact_revision: Revision) -> Result<(), End> {
        if self.remove(watch_id) {
            self.compacted.insert(watch_id);
        }
        // etcd's has no reason and revision 0 (`watcherGroup.chooseAll`); `compact_revision` says it all.
        let mut response = self.response(watch_id, Revision(0));
        response.canceled = true;
        response.compact_revision = compact_revision.0;
        self.send(response).await
    }

    /// Answers a progress request: once, behind all events, and only if there are watchers and every one is there.
    async fn progress(&mut self) -> Result<(), End> {
        let mut reached: Option<Revision> = None;
        for id in self.watchers.keys().copied().collect::<Vec<_>>() {
            let Some(revision) = self.pump_one(id).await? else {
                return Ok(());
            };
            reached = Some(reached.map_or(revision, |reached| reached.min(revision)));
        }
        match reached {
            Some(revision) => self.send(self.response(NO_WATCH_ID, revision)).await,
            None => Ok(()),
        }
    }

    /// Tells watchers that asked for it, and that heard nothing for an interval, how far they are.
    async fn periodic_progress(&mut self) -> Result<(), End> {
        for id in self.watchers.keys().copied().collect::<Vec<_>>() {
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            if watcher.progress_notify
                && !std::mem::take(&mut watcher.is_fresh)
                && let Some(revision) = self.pump_one(id).await?
            {
                self.send(self.response(id, revision)).await?;
            }
        }
        Ok(())
    }
}
