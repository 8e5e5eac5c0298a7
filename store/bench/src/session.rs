//! One client: a share of a connection, and what it sends.

use bytes::Bytes;
use tonic::Status;
use xebec_proto::etcdserverpb::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use crate::line::{Line, Method};

/// Bytes of a value (etcd's own load generator is usually run with 256).
pub const VALUE_BYTES: usize = 256;
/// Distinct keys that clients write and read.
pub const KEYS: u64 = 100_000;
/// Prefixes of the keys that are listed, and keys below each.
pub const LISTS: u64 = 20;
/// Keys below each listed prefix.
pub const LIST_KEYS: usize = 500;

/// One client.
pub struct Session {
    line: Line,
    random: fastrand::Rng,
    value: Bytes,
}

impl Session {
    /// A client on that connection. Equal numbers behave equally.
    pub fn new(line: Line, number: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(number as u64 + 1);
        let value: Vec<u8> = (0..VALUE_BYTES).map(|_| random.u8(..)).collect();
        Self { line, random, value: value.into() }
    }

    /// One of ten dice.
    pub fn dice(&mut self) -> u64 {
        self.random.u64(0..10)
    }

    fn key(&mut self) -> Bytes {
        format!("bench/{:08}", self.random.u64(0..KEYS)).into()
    }

    pub async fn put(&mut self) -> Result<(), Status> {
        let request = PutRequest { key: self.key(), value: self.value.clone(), ..Default::default() };
        self.line.call::<_, PutResponse>(Method::Put, &request).await.map(drop)
    }

    pub async fn put_at(&mut self, key: Bytes) -> Result<(), Status> {
        let request = PutRequest { key, value: self.value.clone(), ..Default::default() };
        self.line.call::<_, PutResponse>(Method::Put, &request).await.map(drop)
    }

    pub async fn get(&mut self, serializable: bool) -> Result<(), Status> {
        let request = RangeRequest { key: self.key(), serializable, ..Default::default() };
        self.line.call::<_, RangeResponse>(Method::Range, &request).await.map(drop)
    }

    /// Lists one prefix of [`LIST_KEYS`] keys.
    pub async fn list(&mut self) -> Result<(), Status> {
        let list = self.random.u64(0..LISTS);
        let request = RangeRequest {
            key: format!("list/{list:04}/").into(),
            range_end: format!("list/{list:04}0").into(),
            limit: LIST_KEYS as i64,
            ..Default::default()
        };
        let found = self.line.call::<_, RangeResponse>(Method::Range, &request).await?.kvs.len();
        if found == LIST_KEYS { Ok(()) } else { Err(Status::data_loss(format!("{found} keys instead of {LIST_KEYS}"))) }
    }

    /// A transaction of three compares, which all hold, and a put.
    pub async fn txn(&mut self) -> Result<(), Status> {
        let key = self.key();
        let compare = |key: Bytes, target: CompareTarget, union: TargetUnion| Compare {
            result: CompareResult::Greater.into(),
            target: target.into(),
            key,
            target_union: Some(union),
            ..Default::default()
        };
        let compares = vec![
            compare(key.clone(), CompareTarget::Version, TargetUnion::Version(-1)),
            compare(key.clone(), CompareTarget::Mod, TargetUnion::ModRevision(-1)),
            compare(key.clone(), CompareTarget::Create, TargetUnion::CreateRevision(-1)),
        ];
        self.commit(key, compares).await
    }

    /// What an API server does: reads a key, then writes it if it is as it was.
    pub async fn get_then_txn(&mut self) -> Result<(), Status> {
        let key = self.key();
        let request = RangeRequest { key: key.clone(), ..Default::default() };
        let read: RangeResponse = self.line.call(Method::Range, &request).await?;
        let unchanged = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(read.kvs.first().map_or(0, |kv| kv.mod_revision))),
            ..Default::default()
        };
        self.commit(key, vec![unchanged]).await
    }

    async fn commit(&mut self, key: Bytes, compare: Vec<Compare>) -> Result<(), Status> {
        let read = RangeRequest { key: key.clone(), ..Default::default() };
        let write = PutRequest { key, value: self.value.clone(), ..Default::default() };
        let op = |request| RequestOp { request: Some(request) };
        let txn = TxnRequest {
            compare,
            success: vec![op(Request::RequestPut(write))],
            failure: vec![op(Request::RequestRange(read))],
        };
        self.line.call::<_, TxnResponse>(Method::Txn, &txn).await.map(drop)
    }
}
