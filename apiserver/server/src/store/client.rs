//! Endpoints, reads, and the loop that fails over.

use super::StoreError;
use super::epoch::Epoch;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use xebec_proto::etcdserverpb::{CompactionRequest, RangeRequest, RangeResponse, StatusRequest};

/// Largest message accepted from the store, in bytes; a page of 500 objects of 1.5 MiB would be more, so pages are small.
pub(super) const MESSAGE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Time one attempt of a request may take.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time a request may take with all its attempts.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two rounds over all endpoints.
pub(super) const ROUND_PAUSE: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach the store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// URLs, `http://` or `https://`.
    pub servers: Vec<String>,
    /// Authority of the store's certificates.
    pub ca: Option<PathBuf>,
    /// Client certificate and key.
    pub cert: Option<PathBuf>,
    /// Key of the client certificate.
    pub key: Option<PathBuf>,
    /// What tells this API server from the others of the cluster: its address. It names the server's
    /// [epoch](super::epoch).
    pub identity: String,
}

/// One stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// Full key.
    pub key: Bytes,
    /// Stored bytes.
    pub value: Bytes,
    /// Revision of the last change.
    pub mod_revision: i64,
    /// Revision of the creation.
    pub create_revision: i64,
}

/// One page of a range.
#[derive(Clone, Debug)]
pub struct Page {
    /// Values in key order.
    pub kvs: Vec<Kv>,
    /// Revision at which the page is true.
    pub revision: i64,
    /// Whether keys remain behind the page.
    pub more: bool,
    /// Keys in the whole range.
    pub count: i64,
}

/// The store, reached through any of its members.
pub struct Store {
    pub(super) endpoints: Vec<Channel>,
    preferred: AtomicUsize,
    exact_progress: OnceCell<bool>,
    pub(super) epoch: Epoch,
    seen: AtomicI64,
}

impl Store {
    /// Prepares connections; they are opened when first used.
    pub fn new(config: &StoreConfig) -> Result<Self, StoreError> {
        let mut endpoints = Vec::with_capacity(config.servers.len());
        for server in &config.servers {
            let url = if server.contains("://") { server.clone() } else { format!("http://{server}") };
            let refused = |error: &dyn std::fmt::Display| StoreError::Refused(format!("{url}: {error}"));
            let endpoint = Endpoint::from_shared(url.clone())
                .map_err(|error| refused(&error))?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            endpoints.push(if url.starts_with("https://") {
                let ca = config.ca.clone().ok_or_else(|| refused(&"--etcd-cafile is needed for https"))?;
                let tls = xebec_pki::ClientTls {
                    ca,
                    cert: config.cert.clone(),
                    key: config.key.clone(),
                    alpn: vec![b"h2".to_vec()],
                };
                let tls = xebec_pki::client_config(&tls).map_err(|error| refused(&error))?;
                endpoint.connect_with_connector_lazy(xebec_pki::TlsConnector::new(tls))
            } else {
                endpoint.connect_lazy()
            });
        }
        if endpoints.is_empty() {
            return Err(StoreError::Refused("no endpoint is given".into()));
        }
        let epoch = Epoch::new(&config.identity);
        Ok(Self {
            endpoints,
            preferred: AtomicUsize::new(0),
            exact_progress: OnceCell::new(),
            epoch,
            seen: AtomicI64::new(0),
        })
    }

    /// The endpoint that answered last, and its number.
    pub(super) fn channel(&self) -> (usize, Channel) {
        let index = self.preferred.load(Ordering::Relaxed) % self.endpoints.len();
        (index, self.endpoints[index].clone())
    }

    /// Turns away from an endpoint that failed, unless somebody did already.
    pub(super) fn turn_from(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        if self.preferred.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && self.endpoints.len() > 1
        {
            tracing::info!(from = index, to = next, "store: turning to the next endpoint");
        }
    }

    /// Reads one key, linearizably; also the revision of the answer.
    pub async fn get(&self, key: &str) -> Result<(Option<Kv>, i64), StoreError> {
        let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        let page = self.range(request).await?;
        Ok((page.kvs.into_iter().next(), page.revision))
    }

    /// Reads `[start, end)`, at `revision` or now (0), at most `limit` keys (0: all).
    pub async fn list(&self, start: &[u8], end: &[u8], limit: i64, revision: i64) -> Result<Page, StoreError> {
        self.range(RangeRequest {
            key: Bytes::copy_from_slice(start),
            range_end: Bytes::copy_from_slice(end),
            limit,
            revision,
            ..Default::default()
        })
        .await
    }

    /// The store's revision now, linearizably: every write acknowledged before this call is at or below it.
    pub async fn current_revision(&self) -> Result<i64, StoreError> {
        let request = RangeRequest {
            // A key that is never written: the answer is only its header.
            key: Bytes::from_static(b"compact_rev_key/xebec-revision"),
            count_only: true,
            ..Default::default()
        };
        Ok(self.range(request).await?.revision)
    }

    /// Forgets history before `revision`; already forgotten is fine.
    pub async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        let (index, channel) = self.channel();
        let mut client = KvClient::new(channel);
        let request = CompactionRequest { revision, ..Default::default() };
        match tokio::time::timeout(REQUEST_TIMEOUT, client.compact(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) if status.code() == Code::OutOfRange => Ok(()),
            Ok(Err(status)) => {
                self.turn_from(index);
                Err(StoreError::Unavailable(status.message().to_owned()))
            }
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        }
    }

    /// Whether the answer to a progress request means that all events up to it have been sent. etcd before 3.4.25 and
    /// 3.5.8 answers too early (etcd issue 15220), and upstream does not use its progress either.
    pub async fn has_exact_progress(&self) -> Result<bool, StoreError> {
        let ask = async {
            let (index, channel) = self.channel();
            let mut client = MaintenanceClient::new(channel);
            let status = client.status(StatusRequest {});
            match tokio::time::timeout(ATTEMPT_TIMEOUT, status).await {
                Ok(Ok(status)) => Ok(exact_progress_since(&status.into_inner().version)),
                Ok(Err(status)) => {
                    self.turn_from(index);
                    Err(StoreError::Unavailable(status.message().to_owned()))
                }
                Err(_) => {
                    self.turn_from(index);
                    Err(StoreError::Unavailable("no answer in time".into()))
                }
            }
        };
        self.exact_progress.get_or_try_init(|| ask).await.copied()
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, StoreError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let answer =
            self.ask(&request, deadline, |mut client, request| async move { client.range(request).await }).await?;
        let page = page(answer);
        self.saw(page.revision);
        Ok(page)
    }

    /// Asks one endpoint after the other until one answers; for requests that change nothing.
    pub(super) async fn ask<Message: Clone, Answer, Call>(
        &self,
        message: &Message,
        deadline: Instant,
        call: impl Fn(KvClient<Channel>, Request<Message>) -> Call,
    ) -> Result<Answer, StoreError>
    where
        Call: Future<Output = Result<Response<Answer>, Status>>,
    {
        let mut attempts = 0usize;
        loop {
            let (index, channel) = self.channel();
            attempts += 1;
            let client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut request = Request::new(message.clone());
            request.set_timeout(ATTEMPT_TIMEOUT);
            let status = match tokio::time::timeout(ATTEMPT_TIMEOUT, call(client, request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if let Some(error) = refusal(&status) {
                return Err(error);
            }
            self.turn_from(index);
            if Instant::now() >= deadline {
                return Err(StoreError::Unavailable(status.message().to_owned()));
            }
            if attempts.is_multiple_of(self.endpoints.len()) {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }

    /// A revision that the store had reached when it last answered; what is asked for from now on is done at later ones.
    pub(super) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Takes over the revision of an answer. The last one counts, not the highest: they all serve, and after the store
    /// was restored from a snapshot, the highest would be one of a lost history.
    pub(super) fn saw(&self, revision: i64) {
        self.seen.store(revision, Ordering::Release);
    }
}

fn exact_progress_since(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        other => other >= (3, 6, 0),
    }
}

fn page(response: RangeResponse) -> Page {
    Page {
        revision: response.header.map_or(0, |header| header.revision),
        more: response.more,
        count: response.count,
        kvs: response.kvs.into_iter().map(Kv::from).collect(),
    }
}

impl From<xebec_proto::mvccpb::KeyValue> for Kv {
    fn from(kv: xebec_proto::mvccpb::KeyValue) -> Self {
        Self { key: kv.key, value: kv.value, mod_revision: kv.mod_revision, create_revision: kv.create_revision }
    }
}

/// The error of a status that another endpoint would answer likewise; `None` if another may do better.
pub(super) fn refusal(status: &Status) -> Option<StoreError> {
    let message = || status.message().to_owned();
    match status.code() {
        // etcd answers OutOfRange for compacted and for future revisions; ours are never of the future.
        Code::OutOfRange => Some(StoreError::Compacted),
        Code::InvalidArgument => Some(StoreError::TooLarge(message())),
        Code::FailedPrecondition
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Some(StoreError::Refused(message())),
        _ => None,
    }
}

/// First key behind all keys that start with `prefix`, as etcd's clients compute it.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_trusted_since_etcd_repaired_it() {
        for (version, exact) in
            [("3.4.23", false), ("3.4.25", true), ("3.5.7", false), ("3.5.21", true), ("3.6.0-rc.1", true), ("", false)]
        {
            assert_eq!(exact_progress_since(version), exact, "{version}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys() {
        assert_eq!(prefix_end(b"/registry/pods/"), b"/registry/pods0");
        assert_eq!(prefix_end(&[0x61, 0xff]), [0x62]);
        assert_eq!(prefix_end(&[0xff]), [0]);
    }
}
