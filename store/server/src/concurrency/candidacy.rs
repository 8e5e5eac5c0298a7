//! A key that waits for its turn.

use bytes::Bytes;
use tonic::Status;
use xebec_proto::{
    etcdserverpb::{
        RangeRequest, TxnRequest, TxnResponse,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb,
};
use xebec_store_core::{EventKind, KeyRange, Revision};

use super::{
    caller::{self, Caller, unknown},
    key_watch::KeyWatch,
};

/// The keys of all candidates: `name/...`.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// A candidate's key: `name/<lease in hex>`. A negative lease is written as Go writes one.
pub(super) fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The oldest key below a prefix (etcd `clientv3.WithFirstCreate`).
pub(super) fn oldest(prefix: &Bytes) -> RangeRequest {
    edge(prefix, SortOrder::Ascend)
}

fn edge(prefix: &Bytes, order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        // No key follows all keys of a prefix that ends in 0xff only; a prefix here ends in a slash.
        range_end: KeyRange::prefix(prefix).end().unwrap_or_else(|| Bytes::from_static(b"\0")),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// A key in a queue of candidates.
pub(super) struct Candidacy {
    pub caller: Caller,
    pub prefix: Bytes,
    pub key: Bytes,
    /// The revision that created the key: its place in the queue.
    pub revision: i64,
}

/// A candidacy that is withdrawn when it is dropped: the client went away while it waited.
pub(super) struct Waiting(Option<Candidacy>);

impl Candidacy {
    /// Withdraws the candidacy if the client goes away from here on.
    pub fn waiting(self) -> Waiting {
        Waiting(Some(self))
    }

    /// Removes the key, if it is still the one of this candidacy.
    pub async fn withdraw(&self) -> Result<TxnResponse, Status> {
        let txn = TxnRequest {
            compare: vec![caller::created_at(&self.key, self.revision)],
            success: vec![caller::delete(&self.key)],
            failure: vec![],
        };
        self.caller.txn(txn).await
    }

    /// Waits until every older candidate is gone (etcd `concurrency.waitDeletes`). Each waits for the one before it, so
    /// that a deletion wakes one candidate only.
    pub async fn turn(&self) -> Result<(), Status> {
        loop {
            let youngest_before =
                RangeRequest { max_create_revision: self.revision - 1, ..edge(&self.prefix, SortOrder::Descend) };
            let read = self.caller.range(youngest_before).await?;
            let Some(before) = read.kvs.first() else {
                return Ok(());
            };
            let revision = read.header.as_ref().map_or(0, |header| header.revision);
            self.gone(before, revision).await?;
        }
    }

    async fn gone(&self, kv: &mvccpb::KeyValue, read_at: i64) -> Result<(), Status> {
        let mut watch = KeyWatch::new(&self.caller.context, KeyRange::Key(kv.key.clone()), Revision(read_at));
        loop {
            let delivery = watch.next().await.map_err(|status| unknown(&status))?;
            if delivery.events.iter().any(|event| event.kind == EventKind::Delete) {
                return Ok(());
            }
        }
    }
}

impl Waiting {
    pub fn candidacy(&self) -> Option<&Candidacy> {
        self.0.as_ref()
    }

    /// The wait is over, and the key stays.
    pub fn done(mut self) -> Option<Candidacy> {
        self.0.take()
    }

    /// The wait failed: the key goes.
    pub async fn failed(mut self) {
        if let Some(candidacy) = self.0.take()
            && let Err(status) = candidacy.withdraw().await
        {
            tracing::debug!(%status, "a candidate's key is left to its lease");
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(candidacy) = self.0.take() {
            tokio::spawn(Waiting(Some(candidacy)).failed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_named_by_their_lease_in_hexadecimal() {
        assert_eq!(key(&prefix(b"jobs"), 0x32_69_5f), Bytes::from_static(b"jobs/32695f"));
        assert_eq!(key(&prefix(b"jobs"), -1), Bytes::from_static(b"jobs/-1"));
        assert_eq!(oldest(&prefix(b"jobs")).range_end, Bytes::from_static(b"jobs0"));
    }
}
