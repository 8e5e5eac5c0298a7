//! Transactions: every write of the API server is one, guarded by compares.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, Kv, MESSAGE_BYTES_MAX, REQUEST_TIMEOUT, ROUND_PAUSE, Store, refusal};
use bytes::Bytes;
use tonic::{Request, Status};
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::request_op::Request as Op;
use xebec_proto::etcdserverpb::response_op::Response as Answer;
use xebec_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
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

impl Store {
    /// Commits `txn`. An attempt whose fate is unknown is repeated, which is safe only because a check fails once the
    /// first attempt has been committed; therefore a transaction without checks is not repeated.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] if it may have been committed.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let request = encode(txn);
        let started = tokio::time::Instant::now();
        let mut attempts = 0usize;
        loop {
            let (index, channel) = self.channel();
            attempts += 1;
            let mut client = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut attempt = Request::new(request.clone());
            attempt.set_timeout(ATTEMPT_TIMEOUT);
            let status = match tokio::time::timeout(ATTEMPT_TIMEOUT, client.txn(attempt)).await {
                Ok(Ok(response)) => return decode(txn, response.into_inner(), attempts > 1),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            if let Some(error) = refusal(&status) {
                return Err(error);
            }
            self.turn_from(index);
            if txn.checks.is_empty() || started.elapsed() >= REQUEST_TIMEOUT {
                return Err(StoreError::Ambiguous(status.message().to_owned()));
            }
            if attempts.is_multiple_of(self.endpoints.len()) {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }
}

fn encode(txn: &Txn) -> TxnRequest {
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
        compare: txn.checks.iter().map(compare).collect(),
        success: puts.chain(deletes).collect(),
        failure: txn.checks.iter().map(|check| op(read(check.key()))).collect(),
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

fn decode(txn: &Txn, response: TxnResponse, repeated: bool) -> Result<Outcome, StoreError> {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    if response.succeeded {
        return Ok(Outcome::Committed(revision));
    }
    let mut current = Vec::with_capacity(txn.checks.len());
    for answer in response.responses {
        let Some(Answer::ResponseRange(range)) = answer.response else {
            return Err(StoreError::Refused("the store answered a read with something else".into()));
        };
        current.push(range.kvs.into_iter().next().map(Kv::from));
    }
    if repeated {
        return settle(txn, current, revision);
    }
    Ok(Outcome::Failed(current))
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
