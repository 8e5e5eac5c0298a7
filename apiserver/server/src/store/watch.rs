//! Watches of the store.

use super::StoreError;
use super::client::{Kv, MESSAGE_BYTES_MAX, Store, prefix_end};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use xebec_proto::etcdserverpb::watch_client::WatchClient;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;
use xebec_proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use xebec_proto::mvccpb::event::EventType;

/// Requests waiting to be sent on one watch stream; progress requests beyond it are pointless.
const REQUESTS_QUEUED_MAX: usize = 8;
/// Time the store may take to answer the creation of a watch.
const CREATE_TIMEOUT: Duration = Duration::from_secs(3);

/// One change in the store.
#[derive(Clone, Debug)]
pub struct StoreEvent {
    /// The value after the change; of a deletion: key and revision only.
    pub kv: Kv,
    /// Whether the key was deleted.
    pub deleted: bool,
}

/// What a watch delivers.
#[derive(Debug)]
pub enum WatchItem {
    /// Changes in order; all up to `revision` inclusive have been delivered.
    Events(Vec<StoreEvent>),
    /// All changes up to this revision have been delivered.
    Progress(i64),
    /// Changes that the watch still needs have been compacted: read everything anew.
    Compacted,
}

/// A watch of one prefix.
pub struct StoreWatch {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    endpoint: usize,
}

impl Store {
    /// Watches `prefix` from `start_revision` on.
    pub async fn watch(&self, prefix: &str, start_revision: i64) -> Result<StoreWatch, StoreError> {
        let (endpoint, channel) = self.channel();
        let (requests, receiver) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let create = WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: Bytes::from(prefix_end(prefix.as_bytes())),
            start_revision,
            progress_notify: true,
            ..Default::default()
        };
        let unavailable = |message: &str| StoreError::Unavailable(message.to_owned());
        requests
            .send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
            .await
            .map_err(|_| unavailable("watch stream closed"))?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut request = Request::new(ReceiverStream::new(receiver));
        // etcd ends watches with this mark when the member has no leader, instead of leaving them silent.
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        let opened = tokio::time::timeout(CREATE_TIMEOUT, client.watch(request)).await;
        let responses = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                self.turn_from(endpoint);
                return Err(unavailable(status.message()));
            }
            Err(_) => {
                self.turn_from(endpoint);
                return Err(unavailable("no answer to a watch"));
            }
        };
        Ok(StoreWatch { requests, responses, endpoint })
    }

    /// Marks the endpoint of a watch that fell silent or failed.
    pub fn watch_failed(&self, watch: &StoreWatch) {
        self.turn_from(watch.endpoint);
    }
}

impl StoreWatch {
    /// Asks the store to say how far this watch is; a request too many is dropped.
    pub fn request_progress(&self) {
        let request = WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        if self.requests.try_send(request).is_err() {
            tracing::trace!("watch: progress requests are queued already");
        }
    }

    /// The next item; an error ends the watch.
    pub async fn next(&mut self) -> Result<WatchItem, StoreError> {
        loop {
            let message = self.responses.message().await;
            let response = match message {
                Ok(Some(response)) => response,
                Ok(None) => return Err(StoreError::Unavailable("the store ended the watch".into())),
                Err(status) => return Err(StoreError::Unavailable(status.message().to_owned())),
            };
            if response.compact_revision > 0 {
                return Ok(WatchItem::Compacted);
            }
            if response.canceled {
                return Err(StoreError::Unavailable(format!("watch cancelled: {}", response.cancel_reason)));
            }
            if response.created {
                continue;
            }
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            if response.events.is_empty() {
                return Ok(WatchItem::Progress(revision));
            }
            return Ok(WatchItem::Events(response.events.into_iter().filter_map(event).collect()));
        }
    }
}

fn event(event: xebec_proto::mvccpb::Event) -> Option<StoreEvent> {
    let deleted = event.r#type == i32::from(EventType::Delete);
    let kv = Kv::from(event.kv?);
    Some(StoreEvent { kv, deleted })
}
