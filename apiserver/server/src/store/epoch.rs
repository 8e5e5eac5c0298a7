//! The epoch of an API server: what makes it safe to repeat a transaction whose fate is unknown.
//!
//! A transaction that creates is guarded by "the key does not exist", which becomes true again once somebody deletes what
//! was created. An attempt that hangs in a stopped member or a cut connection could so be applied after its repetition
//! was acknowledged and the object deleted, and bring it back. Such transactions therefore also compare the revision of a
//! key that belongs to this API server. Before one is repeated, that key is written: the lost attempt was applied before
//! that, or never will be. Stock API servers do not repeat at all (etcd's client, `client/v3/retry_interceptor.go`,
//! repeats only what surely was not sent) and answer with an error instead.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, MESSAGE_BYTES_MAX, ROUND_PAUSE, Store, refusal};
use bytes::Bytes;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::{Request, Status};
use xebec_proto::etcdserverpb::PutRequest;
use xebec_proto::etcdserverpb::kv_client::KvClient;

/// Where the keys lie; one for each address that an API server has, so that they stay few.
const PREFIX: &str = "/xebec.io/apiservers/";
/// Not read from the store yet.
const UNKNOWN: i64 = -1;

/// The revision at which this API server last cut off lost attempts; 0: never.
pub(super) struct Epoch {
    key: String,
    revision: AtomicI64,
    moving: Mutex<()>,
}

impl Epoch {
    pub(super) fn new(identity: &str) -> Self {
        Self { key: format!("{PREFIX}{identity}"), revision: AtomicI64::new(UNKNOWN), moving: Mutex::new(()) }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The epoch that transactions are to be made under.
    pub(super) async fn current(&self, store: &Store) -> Result<i64, StoreError> {
        if self.revision.load(Ordering::Acquire) == UNKNOWN {
            let (found, _) = store.get(&self.key).await?;
            self.saw(found.map_or(0, |kv| kv.mod_revision));
        }
        Ok(self.revision.load(Ordering::Acquire))
    }

    /// Takes over what the store says; it only rises.
    pub(super) fn saw(&self, revision: i64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
    }

    /// Cuts off every attempt that was made under `lost`: when this returns, each of them has been applied, or never
    /// will be. Many that were lost together share one write.
    pub(super) async fn move_on(&self, store: &Store, lost: i64, deadline: Instant) -> Result<(), StoreError> {
        let late = |_| StoreError::Ambiguous("an attempt could not be cut off in time".into());
        let _moving = tokio::time::timeout_at(deadline, self.moving.lock()).await.map_err(late)?;
        let mut attempts = 0usize;
        // Somebody else may have moved it while this one waited.
        while self.revision.load(Ordering::Acquire) <= lost {
            let (index, channel) = store.channel();
            attempts += 1;
            // It carries no condition: one that comes late only makes others ask for the epoch again.
            let put = PutRequest { key: Bytes::copy_from_slice(self.key.as_bytes()), ..Default::default() };
            let mut attempt = Request::new(put);
            attempt.set_timeout(ATTEMPT_TIMEOUT);
            let mut client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let status = match tokio::time::timeout(ATTEMPT_TIMEOUT, client.put(attempt)).await {
                Ok(Ok(response)) => {
                    self.saw(response.into_inner().header.map_or(0, |header| header.revision));
                    continue;
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if let Some(error) = refusal(&status) {
                return Err(error);
            }
            store.turn_from(index);
            if Instant::now() >= deadline {
                return Err(StoreError::Ambiguous(status.message().to_owned()));
            }
            if attempts.is_multiple_of(store.endpoints.len()) {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
        Ok(())
    }
}
