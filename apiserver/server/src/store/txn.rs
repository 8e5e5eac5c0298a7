//! Transactions: every write of the API server is one, guarded by compares. How they can be made again, and their wire form.

use super::StoreError;
use super::client::Kv;
use bytes::Bytes;
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
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

/// How a transaction may be made again when nobody knows what became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition<'a> {
    /// Not at all: nothing would tell whether the attempt had been applied.
    Never,
    /// At once: whichever attempt is applied first refuses all others for ever.
    Guarded,
    /// Under a later [epoch](super::epoch), if the [history](super::fate) of a key says that the attempt was not applied.
    UnderEpoch(Witness<'a>),
}

/// A key and what a transaction puts there: whether that was ever there tells whether the transaction was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a Bytes,
}

impl Check {
    /// Whether it fails for ever once it has failed: no key ever has the same revision twice. "It does not exist" is none
    /// of those: a deletion makes it true again.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Unchanged { mod_revision, .. } => *mod_revision > 0,
            Self::Standing { .. } => true,
        }
    }
}

impl Txn {
    pub(super) fn repetition(&self) -> Repetition<'_> {
        let guards = self.checks.iter().any(|check| self.is_guard(check) && check.is_lasting());
        if guards && self.checks.iter().all(Check::is_lasting) {
            return Repetition::Guarded;
        }
        // The object itself is put first, and its uid is in its value. A put that is not checked against what was there
        // tells nothing (others may put the same), and neither does a deletion.
        let checked = |key: &str| self.checks.iter().any(|check| check.key() == key && self.is_guard(check));
        match self.puts.iter().find(|(key, _)| checked(key)) {
            Some((key, value)) => Repetition::UnderEpoch(Witness { key, value }),
            None => Repetition::Never,
        }
    }

    /// Whether a check is about the revision of a key that is written.
    fn is_guard(&self, check: &Check) -> bool {
        let Check::Unchanged { key, .. } = check else { return false };
        self.value_of(key).is_some() || self.deletes.contains(key)
    }

    fn value_of(&self, key: &str) -> Option<&Bytes> {
        self.puts.iter().find(|(put, _)| put == key).map(|(_, value)| value)
    }

    /// What became of the attempts before one that was refused, if the transaction is [guarded](Repetition::Guarded): what
    /// refuses it does so for ever, so each of them was applied before that, or never will be.
    pub(super) fn settle(&self, current: Vec<Option<Kv>>, revision: i64) -> Result<Outcome, StoreError> {
        let guards = || self.checks.iter().zip(&current).filter(|(check, _)| self.is_guard(check));
        if guards().any(|(check, kv)| check.holds(kv.as_ref())) {
            // It would not if one of them had been committed.
            return Ok(Outcome::Failed(current));
        }
        let is_ours = |(check, kv): (&Check, &Option<Kv>)| match (self.value_of(check.key()), kv) {
            (Some(put), Some(kv)) => kv.value == *put,
            (None, None) => true,
            _ => false,
        };
        if guards().all(is_ours) {
            let committed_at = guards().find_map(|(_, kv)| kv.as_ref()).map_or(revision, |kv| kv.mod_revision);
            return Ok(Outcome::Committed(committed_at));
        }
        // Somebody changed it: perhaps we, and then somebody else. Only the client can find out.
        Err(StoreError::Ambiguous("the object changed while an attempt was not acknowledged".into()))
    }
}

/// The request, with one more check behind the transaction's own.
pub(super) fn encode(txn: &Txn, more: Option<&Check>) -> TxnRequest {
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
        failure: txn.checks.iter().chain(more).map(|check| op(Op::RequestRange(reading(check.key())))).collect(),
    }
}

/// A transaction that only reads.
pub(super) fn reads(ranges: impl Iterator<Item = RangeRequest>) -> TxnRequest {
    TxnRequest { success: ranges.map(|range| op(Op::RequestRange(range))).collect(), ..Default::default() }
}

/// A read of one key.
pub(super) fn reading(key: &str) -> RangeRequest {
    RangeRequest { key: bytes_of(key), ..Default::default() }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
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

/// What each read of a transaction found, in order.
pub(super) fn found(response: TxnResponse) -> Result<Vec<Option<Kv>>, StoreError> {
    let value = |answer: ResponseOp| match answer.response {
        Some(Answer::ResponseRange(range)) => Ok(range.kvs.into_iter().next().map(Kv::from)),
        _ => Err(StoreError::Refused("the store answered a read with something else".into())),
    };
    response.responses.into_iter().map(value).collect()
}

fn bytes_of(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchanged(key: &str, mod_revision: i64) -> Check {
        Check::Unchanged { key: key.into(), mod_revision }
    }

    fn fence() -> Check {
        Check::Standing { key: "/leader".into(), create_revision: 3 }
    }

    fn txn(checks: Vec<Check>, puts: &[&str], deletes: &[&str]) -> Txn {
        let puts = puts.iter().map(|key| ((*key).to_owned(), Bytes::from(format!("ours {key}")))).collect();
        Txn { checks, puts, deletes: deletes.iter().map(|key| (*key).to_owned()).collect(), lease: 0 }
    }

    fn kv(key: &str, value: &str, mod_revision: i64) -> Option<Kv> {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        Some(Kv { key, value, mod_revision, create_revision: 1 })
    }

    /// The key of the witness, if the transaction is to be repeated under a later epoch.
    fn witness(txn: &Txn) -> Option<&str> {
        match txn.repetition() {
            Repetition::UnderEpoch(witness) => Some(witness.key),
            Repetition::Guarded | Repetition::Never => None,
        }
    }

    #[test]
    fn a_change_of_a_known_version_guards_itself() {
        for txn in [
            txn(vec![unchanged("/a", 5)], &["/a"], &[]),
            txn(vec![unchanged("/a", 5), fence()], &[], &["/a"]),
            txn(vec![unchanged("/a", 5), unchanged("/b", 7)], &["/a"], &["/b"]),
        ] {
            assert_eq!(txn.repetition(), Repetition::Guarded, "{txn:?}");
        }
    }

    #[test]
    fn what_creates_anything_is_repeated_under_a_later_epoch_only() {
        assert_eq!(witness(&txn(vec![unchanged("/a", 0)], &["/a"], &[])), Some("/a"));
        // A Service with an address and a node port: the object itself tells its fate.
        let service = txn(vec![unchanged("/a", 0), unchanged("/b", 0), unchanged("/c", 7)], &["/a", "/b", "/c"], &[]);
        assert_eq!(witness(&service), Some("/a"));
        // It is guarded, but what refuses it may be gone later, and let a late attempt in.
        assert_eq!(witness(&txn(vec![unchanged("/a", 5), unchanged("/b", 0)], &["/a", "/b"], &[])), Some("/a"));
    }

    #[test]
    fn what_leaves_no_trace_of_its_own_is_not_repeated() {
        for txn in [
            txn(Vec::new(), &["/a"], &[]),
            txn(vec![fence()], &[], &["/a", "/b"]),
            txn(vec![fence()], &["/a"], &[]),
            txn(vec![unchanged("/b", 5)], &[], &["/a"]),
            txn(vec![unchanged("/a", 0)], &[], &["/a"]),
        ] {
            assert_eq!(txn.repetition(), Repetition::Never, "{txn:?}");
        }
    }

    #[test]
    fn a_refused_repetition_of_a_guarded_change_tells_what_became_of_the_attempts_before() {
        let update = txn(vec![unchanged("/a", 5), fence()], &["/a"], &[]);
        let settled = |current| update.settle(vec![current, None], 9);
        assert!(matches!(settled(kv("/a", "ours /a", 8)), Ok(Outcome::Committed(8))));
        assert!(matches!(settled(kv("/a", "before", 5)), Ok(Outcome::Failed(_))), "the leadership was lost");
        assert!(matches!(settled(kv("/a", "theirs", 8)), Err(StoreError::Ambiguous(_))));
        assert!(matches!(settled(None), Err(StoreError::Ambiguous(_))));
        let deletion = txn(vec![unchanged("/a", 5), fence()], &[], &["/a", "/b"]);
        assert!(matches!(deletion.settle(vec![None, None], 9), Ok(Outcome::Committed(9))));
        assert!(matches!(deletion.settle(vec![kv("/a", "before", 5), None], 9), Ok(Outcome::Failed(_))));
        assert!(matches!(deletion.settle(vec![kv("/a", "theirs", 8), None], 9), Err(StoreError::Ambiguous(_))));
    }
}
