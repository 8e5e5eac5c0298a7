//! Sequences at random, dense in collisions: few keys, few leases, revisions near the store's.

use bytes::Bytes;
use xebec_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, compare::TargetUnion, request_op::Request,
};

use crate::random::Random;
use crate::step::{Step, Turn};

/// Clients with connections of their own.
pub const CLIENTS: usize = 3;
/// Watch streams.
pub const STREAMS: usize = 2;
const KEYS: [&[u8]; 9] = [b"a", b"a\0", b"ab", b"b", b"b\xff", b"c", b"d", b"\0", b"zz"];
const ENDS: [&[u8]; 6] = [b"\0", b"b", b"c", b"e", b"a", b"\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"yy"];
const LEASES: [i64; 5] = [1, 2, 3, -7, i64::MAX];
/// The most operations of a transaction (etcd `--max-txn-ops`).
const TXN_OPS_MAX: usize = 128;

pub struct Generator {
    random: Random,
    /// About where the store's revision is, counted from the beginning.
    revision: i64,
    /// Overlaps of deletions "from key" with puts, which etcd lets pass; when compacted right there it loses the value and
    /// stops ("range failed to find revision pair"), so such sequences have no compactions.
    with_overlaps: bool,
    /// Sort options that do not exist and watches that begin before 0, which etcd 3.4 does not look at (a sort target makes
    /// it stop).
    with_bad_input: bool,
}

impl Generator {
    pub fn new(seed: u64, version: (u32, u32)) -> Self {
        Self {
            random: Random::new(seed),
            revision: 0,
            with_overlaps: seed.is_multiple_of(4),
            with_bad_input: version >= (3, 5),
        }
    }

    pub fn sequence(&mut self, steps: usize) -> Vec<Turn> {
        let filled = self.random.below(12);
        self.revision += filled as i64;
        let turn = |number| {
            let client = self.random.below(CLIENTS);
            // Most sequences begin with keys to find.
            let step = if number < filled { Step::Put(self.put()) } else { self.step() };
            Turn { number, client, step }
        };
        (0..steps).map(turn).collect()
    }

    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..25 => Step::Range(self.range()),
            25..40 => {
                self.revision += 1;
                Step::Put(self.put())
            }
            40..47 => {
                self.revision += 1;
                Step::Delete(self.delete())
            }
            47..67 => {
                self.revision += 1;
                Step::Txn(self.guarded_txn())
            }
            67..71 if self.with_overlaps => Step::Leases,
            67..71 => Step::Compact(self.compaction()),
            71..76 => Step::Grant(self.grant()),
            76..78 => self.brief_grant(),
            78..80 => Step::Revoke(self.lease()),
            80..83 => Step::TimeToLive { id: self.lease(), keys: self.random.percent(50) },
            83..86 => Step::KeepAlive(self.lease()),
            86 => Step::Leases,
            87..94 => Step::Watch { stream: self.random.below(STREAMS), request: self.watch() },
            94..96 => Step::CancelWatch { stream: self.random.below(STREAMS), watch_id: self.random.between(0, 4) },
            96..98 => Step::Progress { stream: self.random.below(STREAMS) },
            _ => Step::Settle,
        }
    }

    fn key(&mut self) -> Bytes {
        if self.random.percent(2) { Bytes::new() } else { Bytes::from_static(self.random.pick::<&[u8]>(&KEYS)) }
    }

    fn end(&mut self) -> Bytes {
        if self.random.percent(50) { Bytes::new() } else { Bytes::from_static(self.random.pick::<&[u8]>(&ENDS)) }
    }

    fn value(&mut self) -> Bytes {
        Bytes::from_static(self.random.pick::<&[u8]>(&VALUES))
    }

    fn lease(&mut self) -> i64 {
        if self.random.percent(5) { 0 } else { *self.random.pick(&LEASES) }
    }

    /// Somewhere near the store's revision: the past mostly, the future sometimes.
    fn revision(&mut self) -> i64 {
        match self.random.below(20) {
            0 => -1,
            1 => self.revision + self.random.between(1, 20),
            _ => (self.revision - self.random.between(-1, 15)).max(1),
        }
    }

    fn revision_or_none(&mut self, percent: usize) -> i64 {
        if self.random.percent(percent) { self.revision() } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        let sorts = self.random.percent(40);
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: *self.random.pick(&[0, 0, 0, 1, 2, 3, -1]),
            revision: self.revision_or_none(35),
            sort_order: if self.random.percent(2) && self.with_bad_input { 3 } else { self.random.below(3) as i32 },
            sort_target: match self.random.below(50) {
                0 if self.with_bad_input => 7,
                _ if sorts => self.random.below(5) as i32,
                _ => 0,
            },
            serializable: self.random.percent(20),
            keys_only: self.random.percent(15),
            count_only: self.random.percent(15),
            min_mod_revision: self.revision_or_none(8),
            max_mod_revision: self.revision_or_none(8),
            min_create_revision: self.revision_or_none(8),
            max_create_revision: self.revision_or_none(8),
        }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.value(),
            lease: if self.random.percent(25) { self.lease() } else { 0 },
            prev_kv: self.random.percent(40),
            ignore_value: self.random.percent(8),
            ignore_lease: self.random.percent(8),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.random.percent(50) }
    }

    fn compare(&mut self) -> Compare {
        let target = if self.random.percent(2) { 9 } else { self.random.below(5) as i32 };
        // The operand is of the target's kind mostly.
        let operand = if self.random.percent(90) { target } else { self.random.below(6) as i32 };
        Compare {
            result: if self.random.percent(2) { 7 } else { self.random.below(4) as i32 },
            target,
            key: self.key(),
            range_end: self.end(),
            target_union: match operand {
                0 => Some(TargetUnion::Version(self.random.between(0, 3))),
                1 => Some(TargetUnion::CreateRevision(self.revision_or_none(70))),
                2 => Some(TargetUnion::ModRevision(self.revision_or_none(70))),
                3 => Some(TargetUnion::Value(self.value())),
                4 => Some(TargetUnion::Lease(self.lease())),
                _ => None,
            },
        }
    }

    fn ops(&mut self, depth: usize) -> Vec<RequestOp> {
        (0..self.random.below(4)).map(|_| RequestOp { request: self.op(depth) }).collect()
    }

    fn op(&mut self, depth: usize) -> Option<Request> {
        match self.random.below(20) {
            0 if self.random.percent(20) => None,
            0..6 => Some(Request::RequestRange(self.range())),
            6..12 => Some(Request::RequestPut(self.put())),
            12..16 => Some(Request::RequestDeleteRange(self.delete())),
            _ if depth > 0 => Some(Request::RequestTxn(self.txn(depth - 1))),
            _ => Some(Request::RequestPut(self.put())),
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let mut txn = TxnRequest {
            compare: (0..self.random.below(3)).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        };
        if self.random.percent(2) {
            // Around the limit, which nested transactions share.
            let many = TXN_OPS_MAX - 2 + self.random.below(4);
            txn.failure = (0..many).map(|_| RequestOp { request: Some(Request::RequestRange(self.range())) }).collect();
        }
        txn
    }

    fn guarded_txn(&mut self) -> TxnRequest {
        let mut txn = self.txn(3);
        if has_delete_from_key(&txn) {
            tame(&mut txn, self.with_overlaps);
        }
        txn
    }

    fn compaction(&mut self) -> CompactionRequest {
        CompactionRequest { revision: self.revision_or_none(95), physical: self.random.percent(50) }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        LeaseGrantRequest { id: self.lease(), ttl: *self.random.pick(&[60, 3_600, 9_000_000_000, 9_000_000_001]) }
    }

    fn brief_grant(&mut self) -> Step {
        Step::GrantBriefly(LeaseGrantRequest { id: 99, ttl: *self.random.pick(&[0, -5, 1, 2, 3]) })
    }

    fn watch(&mut self) -> WatchCreateRequest {
        WatchCreateRequest {
            key: self.key(),
            range_end: self.end(),
            start_revision: self.revision_or_none(60).max(if self.with_bad_input { -1 } else { 0 }),
            progress_notify: self.random.percent(20),
            filters: (0..self.random.below(20) / 17).map(|_| self.random.below(2) as i32).collect(),
            prev_kv: self.random.percent(50),
            watch_id: if self.random.percent(40) { self.random.between(1, 4) } else { 0 },
            fragment: self.random.percent(20),
        }
    }
}

fn requests(txn: &TxnRequest) -> impl Iterator<Item = &Request> {
    txn.success.iter().chain(&txn.failure).filter_map(|op| op.request.as_ref())
}

fn has_delete_from_key(txn: &TxnRequest) -> bool {
    requests(txn).any(|request| match request {
        Request::RequestDeleteRange(delete) => delete.range_end.as_ref() == b"\0",
        Request::RequestTxn(txn) => has_delete_from_key(txn),
        _ => false,
    })
}

/// Takes out what makes etcd stop (`unexpected error during txn with writes`): a put that keeps the value or lease of a
/// key which an overlapping deletion has taken. Without `with_overlaps`, takes out such deletions.
fn tame(txn: &mut TxnRequest, with_overlaps: bool) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
            Some(Request::RequestDeleteRange(delete)) if !with_overlaps && delete.range_end.as_ref() == b"\0" => {
                delete.range_end = Bytes::from_static(b"\xff");
            }
            Some(Request::RequestTxn(txn)) => tame(txn, with_overlaps),
            _ => {}
        }
    }
}
