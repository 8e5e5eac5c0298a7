//! Writers, and watchers of what they write.

use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use xebec_chaos_core::history::{Action, Answer, Event, KeyEvent, PreviousValue, WatchMessage, WatchStep};
use xebec_proto::{
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    mvccpb,
};

use super::Client;
use crate::etcd::{Etcd, bytes, prefix_end, signed, unsigned};

/// Keys that are written.
const KEYS: u32 = 4;
/// All watched keys begin so, in the history too.
const FOLDER: &str = "w/";
/// Between a writer's writes.
const WRITE_PAUSE: Duration = Duration::from_millis(15);
/// Between requests for a bookmark.
const BOOKMARK_PAUSE: Duration = Duration::from_millis(700);
/// A watch that says nothing for so long, bookmarks included, is opened again elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// One in so many bookmarks, a watcher leaves, and resumes at another member.
const LEAVES_ONE_IN: u32 = 12;
/// Nanoseconds after which the writers turn to new keys.
const EPOCH: u64 = 60_000_000_000;

/// Even clients write, odd ones watch, each from another member.
pub async fn run(client: Client) {
    if client.index.is_multiple_of(2) { write(client).await } else { watch(client).await }
}

async fn write(mut client: Client) {
    while client.goes_on() {
        let key = format!("{FOLDER}{}-{}", client.recorder.now() / EPOCH, client.rng.random_range(0..KEYS));
        let (etcd, full) = (client.etcd(), client.key(&key));
        if client.rng.random_range(0..10) == 0 {
            let work = async move { Ok(Answer { revision: Some(etcd.delete(&full).await?), ..Answer::default() }) };
            client.perform(Action::Delete { key }, work).await;
        } else {
            let value = client.new_value();
            let work =
                async move { Ok(Answer { revision: Some(etcd.put(&full, value, 0).await?), ..Answer::default() }) };
            client.perform(Action::Write { key, value }, work).await;
        }
        client.rest(WRITE_PAUSE).await;
    }
}

async fn watch(mut client: Client) {
    let name = format!("w{}", client.index / 2 + 1);
    let mut next = None;
    while client.goes_on() {
        let from = match next {
            Some(next) => next,
            None => match tokio::time::timeout(super::REQUEST_TIMEOUT, client.etcd().get("\0")).await {
                Ok(Ok((_, revision))) => revision + 1,
                _ => {
                    client.move_on();
                    client.rest(WRITE_PAUSE).await;
                    continue;
                }
            },
        };
        next = Some(session(&mut client, &name, from).await);
        client.move_on();
        client.rest(WRITE_PAUSE).await;
    }
}

/// One watch until it ends for whatever reason; where to resume.
async fn session(client: &mut Client, name: &str, from: u64) -> u64 {
    let say = |step: WatchStep| {
        let time = client.recorder.now();
        client.recorder.record(&Event::Watch(WatchMessage { time, watcher: name.to_owned(), step }));
    };
    let (requests, receiver) = mpsc::channel(4);
    say(WatchStep::Open { prefix: FOLDER.to_owned(), from, prev_kv: true });
    let (mut next, mut bookmarks) = (from, 0_u32);
    let leaves = client.rng.random_range(1..2 * LEAVES_ONE_IN);
    let folder = client.key(FOLDER);
    let opening = open(client.etcd(), &folder, from, &requests, receiver);
    let mut stream = match tokio::time::timeout(super::REQUEST_TIMEOUT, opening).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(status)) => return close(say, next, status.message()),
        Err(_) => return close(say, next, "no answer in time"),
    };
    let mut ask = tokio::time::interval(BOOKMARK_PAUSE);
    let mut heard = tokio::time::Instant::now();
    loop {
        let response = tokio::select! {
            response = stream.message() => response,
            _ = ask.tick() => {
                let progress = WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
                if requests.try_send(progress).is_err() || heard.elapsed() > SILENCE_MAX {
                    return close(say, next, "it says nothing any more");
                }
                continue;
            }
            () = client.stop.cancelled() => return close(say, next, "the run ends"),
        };
        heard = tokio::time::Instant::now();
        let response = match response {
            Ok(Some(response)) => response,
            Ok(None) => return close(say, next, "the stream ended"),
            Err(status) => return close(say, next, status.message()),
        };
        let revision = unsigned(response.header.as_ref().map_or(0, |header| header.revision));
        if response.canceled {
            if response.compact_revision > 0 {
                let revision = unsigned(response.compact_revision);
                say(WatchStep::Compacted { revision });
                return revision.max(next);
            }
            return close(say, next, &response.cancel_reason);
        }
        if response.created {
            continue;
        }
        if response.events.is_empty() {
            bookmarks += 1;
            say(WatchStep::Progress { revision });
            next = next.max(revision + 1);
        } else {
            let events = events(&client.prefix, response);
            next = events.iter().map(|event| event.mod_revision + 1).max().unwrap_or(next).max(next);
            say(WatchStep::Events { revision, events });
        }
        if bookmarks >= leaves {
            return close(say, next, "it moves to another member");
        }
    }
}

fn close(say: impl Fn(WatchStep), next: u64, reason: &str) -> u64 {
    say(WatchStep::Close { reason: reason.to_owned() });
    next
}

async fn open(
    etcd: Etcd,
    prefix: &str,
    from: u64,
    requests: &mpsc::Sender<WatchRequest>,
    receiver: mpsc::Receiver<WatchRequest>,
) -> Result<tonic::Streaming<WatchResponse>, tonic::Status> {
    let create = WatchCreateRequest {
        key: bytes(prefix),
        range_end: prefix_end(prefix),
        start_revision: signed(from),
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(create).map_err(|_| tonic::Status::internal("the stream is closed"))?;
    Ok(WatchClient::new(etcd.channel()).watch(ReceiverStream::new(receiver)).await?.into_inner())
}

fn events(prefix: &str, response: WatchResponse) -> Vec<KeyEvent> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let event = |event: mvccpb::Event| {
        let deleted = event.r#type() == mvccpb::event::EventType::Delete;
        let kv = event.kv.unwrap_or_default();
        let key = text(&kv.key);
        KeyEvent {
            key: key.strip_prefix(prefix).unwrap_or(&key).to_owned(),
            value: (!deleted).then(|| text(&kv.value)),
            mod_revision: unsigned(kv.mod_revision),
            create_revision: unsigned(kv.create_revision),
            version: unsigned(kv.version),
            prev: event
                .prev_kv
                .map(|prev| PreviousValue { value: text(&prev.value), mod_revision: unsigned(prev.mod_revision) }),
            uid: None,
        }
    };
    response.events.into_iter().map(event).collect()
}
