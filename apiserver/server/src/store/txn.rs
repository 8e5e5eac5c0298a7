//! Transactions: every write of the API server is one, guarded by compares.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, Kv, MESSAGE_BYTES_MAX, REQUEST_TIMEOUT, ROUND_PAUSE, Store, refusal};
use bytes::Bytes;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::request_op::Request as Op;
use xebec_proto::etcdserverpb::response_op::Response as Answer;
use xebec_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key was last changed at this revision; 0: it does not exist.
    Unchanged {
        /// Full key.
        key: String,
        /// Expected revision of the last change.
        mod_revision: i64,
    },
    /// The key has existed since this revision (a leadership that still stands).
    Standing {
        /// Full key.
        key: String,
        /// Expected revision of the creation.
        create_revision: i64,
    },
}

impl Check {
    /// The key the condition is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Unchanged { key, .. } | Self::Standing { key, .. } => key,
        }
    }

    /// Whether `current` fulfils the condition.
    pub fn holds(&self, current: Option<&Kv>) -> bool {
        match self {
            Self::Unchanged { mod_revision, .. } => current.map_or(0, |kv| kv.mod_revision) == *mod_revision,
            Self::Standing { create_revision, .. } => current.map_or(0, |kv| kv.create_revision) == *create_revision,
        }
    }
}

/// What is to be written if all checks hold.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Conditions.
    pub checks: Vec<Check>,
    /// Keys and values to write.
    pub puts: Vec<(String, Bytes)>,
    /// Keys to delete.
    pub deletes: Vec<String>,
    /// Lease to which the written keys are bound; 0: none.
    pub lease: i64,
}

/// The store's answer.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Everything was written at this revision.
    Committed(i64),
    /// Nothing was written; the current value of each check's key, in order.
    Failed(Vec<Option<Kv>>),
}

impl Txn {
    /// Whether a check fails for ever once this has been committed: a key that it writes had a revision before, and no
    /// key ever has the same revision twice. "It does not exist" is none of those: a deletion makes it true again.
    fn guards_itself(&self) -> bool {
        let writes = |key: &str| self.puts.iter().any(|(put, _)| put == key) || self.deletes.iter().any(|it| it == key);
        self.checks.iter().any(|check| match check {
            Check::Unchanged { key, mod_revision } => *mod_revision > 0 && writes(key),
            Check::Standing { .. } => false,
        })
    }
}

/// What one attempt came to.
enum Attempt {
    /// Answered.
    Answered(TxnResponse),
    /// Not answered, but surely not applied.
    Untouched(Status),
    /// Nobody knows, or the next endpoint may do better.
    Lost(Status),
}

impl Store {
    /// Commits `txn`. An attempt whose fate is unknown is repeated where that is safe: because a check fails for ever once
    /// the first attempt has been committed, or under a later [epoch](super::epoch) of this server, which cuts the first
    /// attempt off. A transaction without checks is not repeated.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] if it may have been committed.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let under_epoch = !txn.checks.is_empty() && !txn.guards_itself();
        let (mut attempts, mut repeats) = (0usize, false);
        loop {
            let epoch = if under_epoch { Some(self.epoch.current(self).await?) } else { None };
            let request = encode(txn, epoch.map(|epoch| self.epoch_check(epoch)).as_ref());
            let (index, channel) = self.channel();
            attempts += 1;
            let status = match attempt(channel, request).await {
                Attempt::Answered(response) => match self.decode(txn, response, epoch, repeats)? {
                    Some(outcome) => return Ok(outcome),
                    // Only the epoch was another one: nothing was written.
                    None if Instant::now() < deadline => continue,
                    None => return Err(StoreError::Unavailable("this server's epoch changes all the time".into())),
                },
                Attempt::Untouched(status) => status,
                Attempt::Lost(status) => {
                    if let Some(error) = refusal(&status) {
                        return Err(if repeats { unsettled(&error) } else { error });
                    }
                    repeats = true;
                    status
                }
            };
            self.turn_from(index);
            if repeats && txn.checks.is_empty() {
                return Err(StoreError::Ambiguous(status.message().to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(given_up(repeats, &status));
            }
            if let Some(epoch) = epoch.filter(|_| repeats) {
                self.epoch.move_on(self, epoch, deadline).await.map_err(|error| unsettled(&error))?;
            }
            if attempts.is_multiple_of(self.endpoints.len()) {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }

    fn epoch_check(&self, epoch: i64) -> Check {
        Check::Unchanged { key: self.epoch.key().to_owned(), mod_revision: epoch }
    }

    /// The outcome for the caller; `None`: refused only because the epoch has moved on.
    fn decode(
        &self,
        txn: &Txn,
        response: TxnResponse,
        epoch: Option<i64>,
        repeats: bool,
    ) -> Result<Option<Outcome>, StoreError> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.succeeded {
            return Ok(Some(Outcome::Committed(revision)));
        }
        let mut current = found(response)?;
        if let Some(epoch) = epoch {
            let now = current.pop().flatten().map_or(0, |kv| kv.mod_revision);
            self.epoch.saw(now);
            let holds = |(check, kv): (&Check, &Option<Kv>)| check.holds(kv.as_ref());
            if now != epoch && txn.checks.iter().zip(&current).all(holds) {
                return Ok(None);
            }
        }
        if repeats { settle(txn, current, revision).map(Some) } else { Ok(Some(Outcome::Failed(current))) }
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

/// Whether there was not even a connection.
fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn given_up(repeats: bool, status: &Status) -> StoreError {
    let message = status.message().to_owned();
    if repeats { StoreError::Ambiguous(message) } else { StoreError::Unavailable(message) }
}

/// The lost attempt could not be cut off, for whatever reason.
fn unsettled(error: &StoreError) -> StoreError {
    StoreError::Ambiguous(error.to_string())
}

/// The request, with one more check behind the transaction's own.
fn encode(txn: &Txn, more: Option<&Check>) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    let read = |key: &str| Op::RequestRange(RangeRequest { key: bytes_of(key), ..Default::default() });
    let puts = txn.puts.iter().map(|(key, value)| {
        op(Op::RequestPut(PutRequest {
            key: bytes_of(key),
            value: value.clone(),
            lease: txn.lease,
            ..Default::default()
        }))
    });
    let deletes = txn
        .deletes
        .iter()
        .map(|key| op(Op::RequestDeleteRange(DeleteRangeRequest { key: bytes_of(key), ..Default::default() })));
    TxnRequest {
        compare: txn.checks.iter().chain(more).map(compare).collect(),
        success: puts.chain(deletes).collect(),
        failure: txn.checks.iter().chain(more).map(|check| op(read(check.key()))).collect(),
    }
}

fn compare(check: &Check) -> Compare {
    let (target, target_union) = match check {
        Check::Unchanged { mod_revision, .. } => (CompareTarget::Mod, TargetUnion::ModRevision(*mod_revision)),
        Check::Standing { create_revision, .. } => {
            (CompareTarget::Create, TargetUnion::CreateRevision(*create_revision))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes_of(check.key()),
        target_union: Some(target_union),
        ..Default::default()
    }
}

/// The current value of each check's key, in order.
fn found(response: TxnResponse) -> Result<Vec<Option<Kv>>, StoreError> {
    let value = |answer: ResponseOp| match answer.response {
        Some(Answer::ResponseRange(range)) => Ok(range.kvs.into_iter().next().map(Kv::from)),
        _ => Err(StoreError::Refused("the store answered a read with something else".into())),
    };
    response.responses.into_iter().map(value).collect()
}

/// A check failed on a repeated attempt: perhaps because an earlier attempt had been committed.
fn settle(txn: &Txn, current: Vec<Option<Kv>>, revision: i64) -> Result<Outcome, StoreError> {
    let now =
        |key: &str| txn.checks.iter().zip(&current).find(|(check, _)| check.key() == key).map(|(_, kv)| kv.as_ref());
    let mut committed_at = revision;
    let mut changed = false;
    let ours = txn.puts.iter().all(|(key, value)| match now(key) {
        Some(Some(kv)) if kv.value == *value => {
            committed_at = kv.mod_revision;
            true
        }
        _ => false,
    }) && txn.deletes.iter().all(|key| matches!(now(key), Some(None) | None));
    for (check, kv) in txn.checks.iter().zip(&current) {
        let written =
            txn.puts.iter().any(|(key, _)| key == check.key()) || txn.deletes.iter().any(|key| key == check.key());
        changed |= written && !check.holds(kv.as_ref());
    }
    if ours {
        return Ok(Outcome::Committed(committed_at));
    }
    if changed {
        // Somebody changed it: perhaps we, and then somebody else. Only the client can find out.
        return Err(StoreError::Ambiguous("the object changed while an attempt was not acknowledged".into()));
    }
    Ok(Outcome::Failed(current))
}

fn bytes_of(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}
