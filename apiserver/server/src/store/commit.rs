//! Committing a transaction: attempts at one endpoint after the other, and what to do when the answer of one is lost.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, Kv, MESSAGE_BYTES_MAX, REQUEST_TIMEOUT, ROUND_PAUSE, Store, refusal};
use super::epoch::Standing;
use super::fate::Fate;
use super::txn::{Check, Outcome, Repetition, Txn, Witness, encode, found};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::{TxnRequest, TxnResponse};
use xebec_proto::was_not_sent;

/// What one attempt came to.
enum Attempt {
    /// Answered.
    Answered(TxnResponse),
    /// Not answered, but surely not applied.
    Untouched(Status),
    /// Nobody knows, or the next endpoint may do better.
    Lost(Status),
}

/// How often and until when one transaction is tried.
struct Tries {
    deadline: Instant,
    count: usize,
}

impl Tries {
    fn begin() -> Self {
        Self { deadline: Instant::now() + REQUEST_TIMEOUT, count: 0 }
    }

    fn are_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Pauses after every round over all endpoints.
    async fn next(&mut self, store: &Store) {
        self.count += 1;
        if self.count.is_multiple_of(store.endpoints.len()) {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }
}

impl Store {
    /// Commits `txn`. An attempt whose fate is unknown is repeated where that is safe: because a check fails for ever once
    /// the first attempt has been committed, or under a later [epoch](super::epoch) of this server, which cuts the first
    /// attempt off, if the [history](super::fate) says that it was not committed before.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] if it may have been committed.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        match txn.repetition() {
            Repetition::Never => self.commit_at_will(txn, false).await,
            Repetition::Guarded => self.commit_at_will(txn, true).await,
            Repetition::UnderEpoch(witness) => self.commit_under_epoch(txn, witness).await,
        }
    }

    async fn commit_at_will(&self, txn: &Txn, repeats: bool) -> Result<Outcome, StoreError> {
        let mut tries = Tries::begin();
        let mut lost = false;
        loop {
            let (index, channel) = self.channel();
            let status = match attempt(channel, encode(txn, None)).await {
                Attempt::Answered(response) => {
                    let revision = self.revision_of(&response);
                    if response.succeeded {
                        return Ok(Outcome::Committed(revision));
                    }
                    let current = found(response)?;
                    return if lost { txn.settle(current, revision) } else { Ok(Outcome::Failed(current)) };
                }
                Attempt::Untouched(status) => status,
                Attempt::Lost(status) => {
                    if let Some(error) = refusal(&status) {
                        return Err(if lost { unsettled(&error) } else { error });
                    }
                    lost = true;
                    status
                }
            };
            self.turn_from(index);
            if (lost && !repeats) || tries.are_over() {
                return Err(given_up(lost, &status));
            }
            tries.next(self).await;
        }
    }

    async fn commit_under_epoch(&self, txn: &Txn, witness: Witness<'_>) -> Result<Outcome, StoreError> {
        let mut tries = Tries::begin();
        // Whenever an attempt begins, the fates of all before it are settled.
        loop {
            let epoch = self.epoch.current(self).await?;
            let since = self.seen();
            let (index, channel) = self.channel();
            let request = encode(txn, Some(&self.epoch.check(epoch)));
            let (lost, status) = match attempt(channel, request).await {
                Attempt::Answered(response) => {
                    let revision = self.revision_of(&response);
                    if response.succeeded {
                        return Ok(Outcome::Committed(revision));
                    }
                    let mut current = found(response)?;
                    let now = current.pop().flatten().map_or(0, |kv| kv.mod_revision);
                    let standing = self.epoch.compare(epoch, now);
                    let holds = |(check, kv): (&Check, &Option<Kv>)| check.holds(kv.as_ref());
                    if standing == Standing::Same || !txn.checks.iter().zip(&current).all(holds) {
                        return Ok(Outcome::Failed(current));
                    }
                    // Only the epoch was another one: nothing was written.
                    if tries.are_over() {
                        return Err(StoreError::Unavailable("this server's epoch changes all the time".into()));
                    }
                    if standing == Standing::Forgotten {
                        tracing::warn!(epoch, now, "the store has forgotten this server's epoch: was it restored?");
                        self.epoch.move_on(self, epoch, tries.deadline).await?;
                    }
                    continue;
                }
                Attempt::Untouched(status) => (false, status),
                Attempt::Lost(status) => match refusal(&status) {
                    Some(error) => return Err(error),
                    None => (true, status),
                },
            };
            self.turn_from(index);
            if tries.are_over() {
                return Err(given_up(lost, &status));
            }
            if lost {
                let until = self.epoch.move_on(self, epoch, tries.deadline).await.map_err(|error| unsettled(&error))?;
                let fate = self.fate(witness, since, until, tries.deadline).await.map_err(|error| unsettled(&error))?;
                tracing::debug!(key = witness.key, since, until, ?fate, "an attempt was cut off");
                match fate {
                    Fate::Committed(revision) => return Ok(Outcome::Committed(revision)),
                    Fate::Never => {}
                    Fate::Unknown(gap) => return Err(StoreError::Ambiguous(gap.to_string())),
                }
            }
            tries.next(self).await;
        }
    }

    fn revision_of(&self, response: &TxnResponse) -> i64 {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        self.saw(revision);
        revision
    }
}

async fn attempt(channel: Channel, request: TxnRequest) -> Attempt {
    let mut client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(request);
    request.set_timeout(ATTEMPT_TIMEOUT);
    match tokio::time::timeout(ATTEMPT_TIMEOUT, client.txn(request)).await {
        Ok(Ok(response)) => Attempt::Answered(response.into_inner()),
        Ok(Err(status)) if was_not_sent(&status) => Attempt::Untouched(status),
        Ok(Err(status)) => Attempt::Lost(status),
        Err(_) => Attempt::Lost(Status::deadline_exceeded("no answer in time")),
    }
}

fn given_up(lost: bool, status: &Status) -> StoreError {
    let message = status.message().to_owned();
    if lost { StoreError::Ambiguous(message) } else { StoreError::Unavailable(message) }
}

/// The fate of a lost attempt could not be settled, for whatever reason.
fn unsettled(error: &StoreError) -> StoreError {
    StoreError::Ambiguous(error.to_string())
}
