//! Counts of large ranges are carried on, and stay exact.

use bytes::Bytes;
use proptest::prelude::*;
use xebec_store_core::{Command, DeleteRange, KeyRange, Op, Put, ReadView, Revision, Txn};

use crate::commands::{commit, open};

/// More keys than it takes for a count to be remembered.
const KEYS: u32 = 2_500;

fn key(number: u32) -> Bytes {
    Bytes::from(format!("k{number:05}"))
}

fn put(number: u32) -> Put {
    Put { key: key(number), ..Put::default() }
}

fn from(number: u32) -> KeyRange {
    KeyRange::Span { start: key(number), end: Bytes::from_static(b"l") }
}

/// Some changes: keys put (new or not), or some deleted.
fn change() -> impl Strategy<Value = Command> {
    prop_oneof![
        (0..KEYS + 500).prop_map(|number| Command::Put(put(number))),
        (0..KEYS, 1u32..40).prop_map(|(number, count)| {
            let range = KeyRange::Span { start: key(number), end: key(number + count) };
            Command::DeleteRange(DeleteRange { range, prev_kv: false })
        }),
        // Deleted and put again at one revision.
        (0..KEYS).prop_map(|number| {
            let delete = DeleteRange { range: KeyRange::Key(key(number)), prev_kv: false };
            Command::Txn(Txn { success: vec![Op::DeleteRange(delete), Op::Put(put(number))], ..Txn::default() })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn counts_that_are_carried_on_are_exact(
        rounds in prop::collection::vec((prop::collection::vec(change(), 0..20), 0..KEYS, 0i64..30), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let keyspace = open(dir.path());
        let all: Vec<Op> = (0..KEYS).map(|number| Op::Put(put(number))).collect();
        commit(&keyspace, &[Command::Txn(Txn { success: all, ..Txn::default() })]);
        for (changes, start, back) in rounds {
            commit(&keyspace, &changes);
            let view = keyspace.view();
            let now = view.current_revision();
            let past = Revision((now.0 - back).max(2));
            // The whole range, the next page, a far one, and the past.
            for (range, at) in [(from(0), now), (from(500), now), (from(start), now), (from(start), past), (from(0), past)] {
                let mut counted = 0;
                view.scan(&range, at, &mut |_| {
                    counted += 1;
                    std::ops::ControlFlow::Continue(())
                }).unwrap();
                prop_assert_eq!(view.count(&range, at).unwrap(), counted, "{:?} at {}", range, at);
            }
        }
    }
}
