//! Watch streams of a sequence: what came back, and whether it is what a watch must see.
//!
//! One more stream, the journal, watches every key from the beginning. It says what happened; what every other watch must
//! have seen follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use xebec_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use xebec_proto::mvccpb::{Event, event::EventType};

/// Longest wait for a response that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same once a sequence is known to fail.
const PATIENCE_SHRINKING: Duration = Duration::from_secs(2);
/// After this a request for progress is repeated: etcd forgets it while a watch is behind.
const PROGRESS_AGAIN: Duration = Duration::from_millis(150);
/// The id of responses that belong to no watch.
const NO_WATCH: i64 = -1;
/// The watch with which [`Stream::barrier`] makes the server answer.
const BARRIER: i64 = 1_000;

static IS_SHRINKING: AtomicBool = AtomicBool::new(false);

/// From now on, responses that do not come are not waited for so long.
pub fn be_brief() {
    IS_SHRINKING.store(true, Ordering::Relaxed);
}

fn patience() -> Duration {
    if IS_SHRINKING.load(Ordering::Relaxed) { PATIENCE_SHRINKING } else { PATIENCE }
}

/// One watch of a stream, as this side knows it.
#[derive(Clone, Debug)]
struct Watcher {
    request: WatchCreateRequest,
    /// The first revision that it gets.
    from: i64,
    /// The store's compacted revision when it was made.
    compacted: i64,
    /// Cancelled by a compaction, but not by the client yet.
    is_compacted: bool,
}

#[derive(Default)]
struct Received {
    /// In order, by watch; the last entry of an id is the running one's.
    by_id: BTreeMap<i64, Vec<WatchResponse>>,
    end: Option<String>,
}

pub struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    received: Arc<Mutex<Received>>,
    news: Arc<Notify>,
    watchers: BTreeMap<i64, Watcher>,
    /// Whether a watch was made that begins in the past and may not have caught up.
    may_lag: bool,
}

async fn receive(
    channel: Channel,
    requests: mpsc::Receiver<WatchRequest>,
    into: Arc<Mutex<Received>>,
    news: Arc<Notify>,
) {
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    // etcd answers nothing, not even with headers, before the first request.
    let end = match client.watch(ReceiverStream::new(requests)).await {
        Err(status) => status.to_string(),
        Ok(responses) => {
            let mut responses = responses.into_inner();
            loop {
                match responses.message().await {
                    Ok(Some(response)) => into.lock().by_id.entry(response.watch_id).or_default().push(response),
                    Ok(None) => break "ended".to_owned(),
                    Err(status) => break status.to_string(),
                }
                news.notify_one();
            }
        }
    };
    into.lock().end = Some(end);
    news.notify_one();
}

impl Stream {
    pub fn open(channel: Channel) -> Stream {
        let (requests, rx) = mpsc::channel(16);
        let received = Arc::new(Mutex::new(Received::default()));
        let news = Arc::new(Notify::new());
        tokio::spawn(receive(channel, rx, received.clone(), news.clone()));
        Stream { requests, received, news, watchers: BTreeMap::new(), may_lag: false }
    }

    async fn send(&self, request: RequestUnion) {
        // A stream that has ended shows in what is received.
        self.requests.send(WatchRequest { request_union: Some(request) }).await.ok();
    }

    /// Waits until what was received satisfies `look`; `None` if it does not within the time.
    async fn wait<T>(&self, patience: Duration, look: impl Fn(&Received) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            {
                let received = self.received.lock();
                if let Some(found) = look(&received) {
                    return Some(found);
                }
                if received.end.is_some() {
                    return None;
                }
            }
            if timeout_at(deadline, self.news.notified()).await.is_err() {
                return look(&self.received.lock());
            }
        }
    }

    fn count(&self, watch_id: i64) -> usize {
        self.received.lock().by_id.get(&watch_id).map_or(0, Vec::len)
    }

    /// Makes a watch: what the server answered.
    pub async fn create(&mut self, request: WatchCreateRequest, compacted: i64) -> String {
        let before: BTreeMap<i64, usize> =
            self.received.lock().by_id.iter().map(|(id, responses)| (*id, responses.len())).collect();
        self.send(RequestUnion::CreateRequest(request.clone())).await;
        let created = self.wait(patience(), |received| {
            let fresh = |(id, responses): (&i64, &Vec<WatchResponse>)| {
                let seen = before.get(id).copied().unwrap_or(0);
                responses.iter().skip(seen).find(|response| response.created).cloned()
            };
            received.by_id.iter().find_map(fresh)
        });
        let Some(created) = created.await else { return "no answer".into() };
        let revision = created.header.as_ref().map_or(0, |header| header.revision);
        let id = created.watch_id;
        if !created.canceled {
            let from = if request.start_revision > 0 { request.start_revision } else { revision + 1 };
            self.may_lag |= from <= revision;
            self.watchers.insert(id, Watcher { request, from, compacted, is_compacted: false });
            // What comes for this id from now on is the new watch's.
            if let Some(responses) = self.received.lock().by_id.get_mut(&id) {
                let seen = before.get(&id).copied().unwrap_or(0);
                responses.drain(..seen);
            }
            if self.watchers[&id].from < compacted {
                return format!("{}, then {}", shown(&created), self.compaction(id).await);
            }
        }
        shown(&created)
    }

    /// Waits until a watch that begins before the compacted revision is cancelled.
    async fn compaction(&mut self, id: i64) -> String {
        let find = |received: &Received| received.by_id[&id].iter().find(|response| response.canceled).cloned();
        let Some(canceled) = self.wait(patience(), find).await else { return "nothing".into() };
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.is_compacted = true;
        }
        shown(&canceled)
    }

    /// Cancels a watch: what the server answered.
    pub async fn cancel(&mut self, watch_id: i64) -> String {
        let is_known = self.watchers.remove(&watch_id).is_some();
        let seen = self.count(watch_id);
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await;
        let find = |received: &Received| {
            let responses = received.by_id.get(&watch_id).map_or(&[][..], Vec::as_slice);
            responses.iter().skip(seen).find(|response| response.canceled).cloned()
        };
        if is_known {
            return self.wait(patience(), find).await.map_or("no answer".into(), |canceled| shown(&canceled));
        }
        self.barrier().await;
        let answer = find(&self.received.lock());
        answer.map_or("silence".into(), |canceled| shown(&canceled))
    }

    /// Makes the server answer something behind whatever it answers to earlier requests.
    async fn barrier(&mut self) {
        let request = WatchCreateRequest { key: "barrier".into(), watch_id: BARRIER, ..Default::default() };
        self.send(RequestUnion::CreateRequest(request)).await;
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: BARRIER })).await;
        let ended = |received: &Received| {
            let responses = received.by_id.get(&BARRIER)?;
            responses.iter().find(|response| response.canceled && !response.created).map(|_| ())
        };
        self.wait(patience(), ended).await;
        self.received.lock().by_id.remove(&BARRIER);
    }

    /// Asks for progress while every watch has its events: the revision, or silence where there must be none.
    pub async fn progress(&mut self, current: i64) -> String {
        let seen = self.count(NO_WATCH);
        let is_due = !self.watchers.is_empty()
            && self.watchers.values().all(|watcher| watcher.request.start_revision <= current && !watcher.is_compacted);
        let find = |received: &Received| {
            let responses = received.by_id.get(&NO_WATCH).map_or(&[][..], Vec::as_slice);
            responses.iter().skip(seen).find(|response| !response.created).cloned()
        };
        if !is_due {
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
            self.barrier().await;
            let answer = find(&self.received.lock());
            return answer.map_or("silence".into(), |progress| shown(&progress));
        }
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
            if let Some(progress) = self.wait(PROGRESS_AGAIN, find).await {
                // A repeated request may be answered as well; this draws the line behind it.
                self.barrier().await;
                return shown(&progress);
            }
        }
        "no answer".into()
    }

    /// The events of a watch so far.
    fn events(&self, id: i64) -> Vec<Event> {
        let received = self.received.lock();
        let responses = received.by_id.get(&id).map_or(&[][..], Vec::as_slice);
        responses.iter().flat_map(|response| response.events.iter().cloned()).collect()
    }

    /// The journal's events, once it has reached `revision`.
    pub async fn journal(&self, revision: i64) -> Result<Vec<Event>, String> {
        let reached = |received: &Received| {
            let last = received.by_id.get(&0)?.last()?;
            let modified = last.events.last().map(revision_of)?;
            (modified >= revision).then_some(())
        };
        match self.wait(patience(), reached).await {
            Some(()) => Ok(self.events(0)),
            None => Err(format!("the journal has not reached {revision}: {:?}", self.received.lock().end)),
        }
    }

    /// Waits until watches that begin in the past have caught up, also those that get nothing. etcd brings all such
    /// watches up to date together, so one more that does get something shows when (`watchableStore.syncWatchers`).
    async fn catch_up(&mut self, journal: &[Event]) {
        let Some(last) = journal.last().filter(|_| self.may_lag) else { return };
        let request = WatchCreateRequest {
            key: last.kv.as_ref().unwrap().key.clone(),
            start_revision: revision_of(last),
            watch_id: BARRIER,
            ..Default::default()
        };
        self.send(RequestUnion::CreateRequest(request)).await;
        let caught_up = |received: &Received| {
            received.by_id.get(&BARRIER)?.iter().find(|response| !response.events.is_empty()).map(|_| ())
        };
        self.wait(patience(), caught_up).await;
        self.barrier().await;
        self.may_lag = false;
    }

    /// Waits until every watch has what the journal says it gets: what is wrong with each that has not.
    pub async fn settle(&mut self, journal: &[Event]) -> Vec<String> {
        self.catch_up(journal).await;
        let mut faults = Vec::new();
        for (id, watcher) in self.watchers.iter().filter(|(_, watcher)| !watcher.is_compacted) {
            let expected: Vec<&Event> = journal.iter().filter(|event| watcher.gets(event)).collect();
            let enough = |received: &Received| {
                let responses = received.by_id.get(id).map_or(&[][..], Vec::as_slice);
                (responses.iter().map(|response| response.events.len()).sum::<usize>() >= expected.len()).then_some(())
            };
            self.wait(patience(), enough).await;
            let found = self.events(*id);
            if let Some(fault) = watcher.fault(&found, &expected) {
                faults.push(format!("watch {id}: {fault}"));
            }
            let received = self.received.lock();
            faults.extend(torn(received.by_id.get(id).map_or(&[][..], Vec::as_slice)));
        }
        faults.extend(self.received.lock().end.iter().map(|end| format!("the stream has ended: {end}")));
        faults
    }
}

/// What is wrong with how events lie in responses: a revision in two of them, or a header behind its events.
fn torn(responses: &[WatchResponse]) -> Option<String> {
    let with_events: Vec<&WatchResponse> = responses.iter().filter(|response| !response.events.is_empty()).collect();
    for pair in with_events.windows(2) {
        let (last, first) = (pair[0].events.last().map(revision_of), pair[1].events.first().map(revision_of));
        if last >= first && !pair[0].fragment {
            return Some(format!("revision {last:?} is torn, or out of order"));
        }
    }
    let behind = |response: &&&WatchResponse| {
        response.header.as_ref().map(|header| header.revision) < response.events.last().map(revision_of)
    };
    with_events.iter().find(behind).map(|response| format!("the header is behind its events: {response:?}"))
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl Watcher {
    fn gets(&self, event: &Event) -> bool {
        let request = &self.request;
        let key: &Bytes = &event.kv.as_ref().unwrap().key;
        let first: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let is_in_range = match request.range_end.as_ref() {
            [] => key.as_ref() == first,
            [0] => key.as_ref() >= first,
            end => key.as_ref() >= first && key.as_ref() < end,
        };
        let filtered = if event.r#type == i32::from(EventType::Put) { 0 } else { 1 };
        is_in_range && revision_of(event) >= self.from && !request.filters.contains(&filtered)
    }

    fn fault(&self, found: &[Event], expected: &[&Event]) -> Option<String> {
        if found.len() != expected.len() {
            return Some(format!("{} events and not {}: {found:?}", found.len(), expected.len()));
        }
        found.iter().zip(expected).find_map(|(found, expected)| {
            let mut expected = (*expected).clone();
            // Compaction may have taken the version before the first revision of all.
            let may_lack = revision_of(found) <= self.compacted;
            if !self.request.prev_kv || (may_lack && found.prev_kv.is_none()) {
                expected.prev_kv = None;
            }
            (*found != expected).then(|| format!("{found:?} and not {expected:?}"))
        })
    }
}

/// A response without identities.
fn shown(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(-1, |header| header.revision);
    let WatchResponse { watch_id, created, canceled, compact_revision, cancel_reason, .. } = response;
    format!(
        "watch {watch_id} at {revision} created {created} canceled {canceled} compact {compact_revision} {cancel_reason:?}"
    )
}
