//! The epoch of an API server: what makes it safe to repeat a transaction whose fate is unknown.
//!
//! A transaction that creates is guarded by "the key does not exist", which becomes true again once somebody deletes what
//! was created. An attempt that hangs in a stopped member or a cut connection could so be applied after its repetition
//! was acknowledged and the object deleted, and bring it back. Such transactions therefore also compare the revision of a
//! key that belongs to this API server. Before one is repeated, that key is written: the lost attempt was applied before
//! that, or never will be; which of the two, the history of what it creates [tells](super::fate). Stock API servers do
//! not repeat at all (etcd's client, `client/v3/retry_interceptor.go`, repeats only what surely was not sent) and answer
//! with an error instead.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, MESSAGE_BYTES_MAX, ROUND_PAUSE, Store, refusal};
use super::txn::Check;
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

/// How the epoch that an attempt was made under stands to the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the same.
    Same,
    /// The store's is later: attempts were cut off meanwhile.
    Moved,
    /// The store's is earlier, which no history brings about: the store was restored from a snapshot, or the key deleted.
    Forgotten,
}

fn compare(made_under: i64, now: i64) -> Standing {
    match now.cmp(&made_under) {
        std::cmp::Ordering::Equal => Standing::Same,
        std::cmp::Ordering::Greater => Standing::Moved,
        std::cmp::Ordering::Less => Standing::Forgotten,
    }
}

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

    /// What a transaction under this epoch has to compare.
    pub(super) fn check(&self, epoch: i64) -> Check {
        Check::Unchanged { key: self.key.clone(), mod_revision: epoch }
    }

    /// The epoch that transactions are to be made under.
    pub(super) async fn current(&self, store: &Store) -> Result<i64, StoreError> {
        if self.revision.load(Ordering::Acquire) == UNKNOWN {
            let (found, _) = store.get(&self.key).await?;
            self.rise(found.map_or(0, |kv| kv.mod_revision));
        }
        Ok(self.revision.load(Ordering::Acquire))
    }

    /// Compares with what the store says to an attempt, and takes that over if it is later. If the store has forgotten
    /// the epoch, what it says must not be used: what was lost under it may have been repeated in the history that is
    /// gone. A new one is written instead, by [`Self::move_on`].
    pub(super) fn compare(&self, made_under: i64, now: i64) -> Standing {
        self.rise(now);
        compare(made_under, now)
    }

    fn rise(&self, revision: i64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
    }

    /// Cuts off every attempt that was made under `lost`: when this returns, each of them was applied before the revision
    /// that it returns, or never will be. Many that were lost together share one write.
    ///
    /// What the store says to the write is the new epoch, whether it is later or not: after a restore it is not. It is
    /// another one in any case, and no revision of one history comes twice.
    pub(super) async fn move_on(&self, store: &Store, lost: i64, deadline: Instant) -> Result<i64, StoreError> {
        let late = |_| StoreError::Ambiguous("an attempt could not be cut off in time".into());
        let _moving = tokio::time::timeout_at(deadline, self.moving.lock()).await.map_err(late)?;
        let mut attempts = 0usize;
        loop {
            let now = self.revision.load(Ordering::Acquire);
            // Somebody else may have moved it while this one waited.
            if now != lost {
                return Ok(now);
            }
            let (index, channel) = store.channel();
            attempts += 1;
            // It carries no condition: one that comes late only makes others ask for the epoch again.
            let put = PutRequest { key: Bytes::copy_from_slice(self.key.as_bytes()), ..Default::default() };
            let mut attempt = Request::new(put);
            attempt.set_timeout(ATTEMPT_TIMEOUT);
            let mut client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let status = match tokio::time::timeout(ATTEMPT_TIMEOUT, client.put(attempt)).await {
                Ok(Ok(response)) => {
                    let revision = response.into_inner().header.map_or(0, |header| header.revision);
                    store.saw(revision);
                    self.revision.store(revision, Ordering::Release);
                    return Ok(revision);
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_before_the_one_that_an_attempt_was_made_under_is_a_lost_one() {
        assert_eq!(compare(0, 0), Standing::Same);
        assert_eq!(compare(7, 9), Standing::Moved);
        assert_eq!(compare(0, 9), Standing::Moved);
        assert_eq!(compare(9, 7), Standing::Forgotten);
        assert_eq!(compare(9, 0), Standing::Forgotten);
    }
}
