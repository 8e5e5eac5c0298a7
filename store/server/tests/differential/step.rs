//! What a sequence is made of. Revisions in steps count from the sequence's beginning, so that a step means the same
//! wherever the sequence is played.

use xebec_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
    compare::TargetUnion, request_op::Request,
};

/// One thing that a client does; the next step begins when it is done.
#[derive(Clone, Debug)]
pub enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(i64),
    /// Granted and revoked at once, for a time to live too short to be left alone.
    GrantBriefly(LeaseGrantRequest),
    TimeToLive {
        id: i64,
        keys: bool,
    },
    KeepAlive(i64),
    Leases,
    Watch {
        stream: usize,
        request: WatchCreateRequest,
    },
    CancelWatch {
        stream: usize,
        watch_id: i64,
    },
    Progress {
        stream: usize,
    },
    /// Waits until every watch has all its events, and looks at them.
    Settle,
}

/// A step, and which of the clients takes it.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its place in the sequence that was generated.
    pub number: usize,
    pub client: usize,
    pub step: Step,
}

/// Revisions of the sequence to revisions of the store; what is not positive has a meaning of its own.
fn shift(revision: &mut i64, base: i64) {
    if *revision > 0 {
        *revision += base;
    }
}

fn shift_range(range: &mut RangeRequest, base: i64) {
    shift(&mut range.revision, base);
    shift(&mut range.min_mod_revision, base);
    shift(&mut range.max_mod_revision, base);
    shift(&mut range.min_create_revision, base);
    shift(&mut range.max_create_revision, base);
}

fn shift_txn(txn: &mut TxnRequest, base: i64) {
    for compare in &mut txn.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            shift(revision, base);
        }
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => shift_range(range, base),
            Some(Request::RequestTxn(txn)) => shift_txn(txn, base),
            _ => {}
        }
    }
}

impl Step {
    /// The step as a store takes it whose revision was `base` when the sequence began.
    pub fn at(&self, base: i64) -> Step {
        let mut step = self.clone();
        match &mut step {
            Step::Range(range) => shift_range(range, base),
            Step::Txn(txn) => shift_txn(txn, base),
            Step::Compact(compact) => shift(&mut compact.revision, base),
            Step::Watch { request, .. } => shift(&mut request.start_revision, base),
            _ => {}
        }
        step
    }
}

/// Fields that say nothing.
const DEFAULTS: [&str; 20] = [
    "limit: 0",
    "revision: 0",
    "sort_order: None",
    "sort_target: Key",
    "serializable: false",
    "keys_only: false",
    "count_only: false",
    "min_mod_revision: 0",
    "max_mod_revision: 0",
    "min_create_revision: 0",
    "max_create_revision: 0",
    "lease: 0",
    "prev_kv: false",
    "ignore_value: false",
    "ignore_lease: false",
    "range_end: b\"\"",
    "progress_notify: false",
    "filters: []",
    "fragment: false",
    "compare: []",
];

/// The sequence for people to read.
pub fn script(turns: &[Turn]) -> String {
    let line = |turn: &Turn| {
        let mut step = format!("{:?}", turn.step);
        for field in DEFAULTS {
            step = step.replace(&format!(", {field}"), "").replace(&format!("{field}, "), "");
        }
        format!("{:>4} client {}: {step}", turn.number, turn.client)
    };
    turns.iter().map(line).collect::<Vec<_>>().join("\n")
}
