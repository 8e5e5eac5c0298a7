//! Where etcd's versions differ from each other, or Xebec means to differ: everything that the comparison lets pass.

use crate::step::Step;

/// A difference that is known.
struct Known {
    /// Versions of etcd (major, minor) that answer otherwise: from, and up to but not including.
    versions: ((u32, u32), (u32, u32)),
    /// Why, and why Xebec answers as it does.
    #[allow(dead_code, reason = "for readers, and for Debug")]
    reason: &'static str,
    /// Whether this is it: the step, etcd's outcome, Xebec's.
    is_it: fn(&Step, &str, &str) -> bool,
}

const EVER: (u32, u32) = (u32::MAX, 0);

const KNOWN: &[Known] = &[
    Known {
        versions: ((3, 0), (3, 7)),
        reason: "keys_only leaves out the lease from 3.7 on (`mvcc.RangeOptions.FastKeysOnly`); Xebec answers as 3.7",
        is_it: |step, theirs, ours| asks_keys_only(step) && without_leases(theirs) == without_leases(ours),
    },
    Known {
        versions: ((3, 0), (3, 5)),
        reason: "3.4 answers a request for progress at once, wherever the watches are; Xebec as 3.5 and later",
        is_it: |step, theirs, ours| {
            matches!(step, Step::Progress { .. }) && ours == "silence" && theirs.starts_with("watch -1 at ")
        },
    },
    Known {
        versions: ((3, 0), (3, 5)),
        reason: "3.4 checks all of a transaction's puts and then its ranges, so that of two faults it names the other",
        is_it: |step, theirs, ours| {
            let of_a_put =
                ["InvalidArgument: etcdserver: key not found", "NotFound: etcdserver: requested lease not found"];
            matches!(step, Step::Txn(_))
                && of_a_put.contains(&theirs)
                && ours.starts_with("OutOfRange: etcdserver: mvcc")
        },
    },
    Known {
        versions: ((3, 0), EVER),
        reason: "etcd gives no progress to a stream with a watch that compaction cancelled, until the client cancels it \
                 as well; Xebec counts running watches only",
        is_it: |step, theirs, ours| {
            matches!(step, Step::Progress { .. }) && theirs == "silence" && ours.starts_with("watch -1 at ")
        },
    },
];

fn asks_keys_only(step: &Step) -> bool {
    fn txn_does(txn: &xebec_proto::etcdserverpb::TxnRequest) -> bool {
        use xebec_proto::etcdserverpb::request_op::Request;
        txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
            Some(Request::RequestRange(range)) => range.keys_only,
            Some(Request::RequestTxn(txn)) => txn_does(txn),
            _ => false,
        })
    }
    match step {
        Step::Range(range) => range.keys_only,
        Step::Txn(txn) => txn_does(txn),
        _ => false,
    }
}

fn without_leases(outcome: &str) -> String {
    outcome.split("lease: ").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')).collect()
}

/// Whether a difference is one that is known of this version.
pub fn is_known(version: (u32, u32), step: &Step, theirs: &str, ours: &str) -> bool {
    let applies = |known: &&Known| version >= known.versions.0 && version < known.versions.1;
    KNOWN.iter().filter(applies).any(|known| (known.is_it)(step, theirs, ours))
}
