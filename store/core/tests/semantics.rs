//! etcd's rules, one table or scene each.
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

use bytes::Bytes;
use xebec_store_core::{
    Alarm, AlarmKind, Applied, ClusterTime, Command, Compare, CompareOperator, CompareTarget, DeleteRange, EventKind,
    KeyRange, KeyValue, LeaseCheckpoint, LeaseDeadline, LeaseGrant, LeaseId, LeaseRevoke, MemoryStore, Op, OpResponse,
    Put, Range, RangeResponse, ReadView, RequestError, Response, Revision, SortOrder, SortTarget, Txn, TxnResponse,
    apply, apply_all, evaluate_range, evaluate_read_only_txn, validate,
};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Put {
    Put { key: bytes(key), value: bytes(value), ..Put::default() }
}

fn key(name: &str) -> KeyRange {
    KeyRange::Key(bytes(name))
}

fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::from_wire(bytes(start), bytes(end))
}

fn delete(range: KeyRange) -> DeleteRange {
    DeleteRange { range, prev_kv: true }
}

fn compare(range: KeyRange, operator: CompareOperator, target: CompareTarget) -> Compare {
    Compare { range, operator, target }
}

fn run(store: &mut MemoryStore, command: Command) -> Applied {
    let applied = apply(store, &command).unwrap();
    store.commit(&applied);
    applied
}

fn filled(keys: &[(&str, &str)]) -> MemoryStore {
    let mut store = MemoryStore::default();
    for (key, value) in keys {
        run(&mut store, Command::Put(put(key, value)));
    }
    store
}

fn range(store: &MemoryStore, request: &Range) -> Result<RangeResponse, RequestError> {
    evaluate_range(store, request).unwrap()
}

fn keys(response: &RangeResponse) -> Vec<&str> {
    response.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

fn txn_response(applied: &Applied) -> &TxnResponse {
    match &applied.result {
        Ok(Response::Txn(response)) => response,
        other => panic!("not a transaction's response: {other:?}"),
    }
}

#[test]
fn revisions_start_at_one_and_a_delete_that_matches_nothing_takes_none() {
    let mut store = MemoryStore::default();
    assert_eq!(store.current_revision(), Revision(1));
    assert_eq!(run(&mut store, Command::Put(put("a", "1"))).revision, Revision(2));
    let missed = run(&mut store, Command::DeleteRange(delete(key("b"))));
    let Ok(Response::DeleteRange(response)) = &missed.result else { panic!() };
    assert_eq!((response.revision, response.deleted, missed.events.len()), (Revision(2), 0, 0));
    assert_eq!(missed.writes, vec![]);
    let hit = run(&mut store, Command::DeleteRange(delete(key("a"))));
    assert_eq!(hit.revision, Revision(3));
    assert_eq!(hit.events[0].kind, EventKind::Delete);
    assert_eq!(hit.events[0].kv, KeyValue { key: bytes("a"), mod_revision: Revision(3), ..KeyValue::default() });
    assert_eq!(hit.events[0].prev_kv.as_ref().unwrap().value, bytes("1"));
}

#[test]
fn versions_count_from_creation_and_start_anew_after_a_deletion() {
    let mut store = filled(&[("a", "1"), ("a", "2")]);
    let kv = store.get(b"a", Revision(3)).unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(2), Revision(3), 2));
    run(&mut store, Command::DeleteRange(delete(key("a"))));
    run(&mut store, Command::Put(put("a", "3")));
    let kv = store.get(b"a", Revision(5)).unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(5), Revision(5), 1));
    assert_eq!(store.get(b"a", Revision(4)).unwrap(), None);
    assert_eq!(store.get(b"a", Revision(2)).unwrap().unwrap().value, bytes("1"));
}

#[test]
fn put_flags_keep_value_or_lease_and_answer_with_the_version_before() {
    let mut store = filled(&[("a", "1")]);
    run(&mut store, Command::LeaseGrant(LeaseGrant { id: LeaseId(7), ttl_seconds: 60, now: ClusterTime(0) }));
    let with_lease = Put { lease: LeaseId(7), ignore_value: true, prev_kv: true, ..put("a", "") };
    let applied = run(&mut store, Command::Put(with_lease));
    let Ok(Response::Put(response)) = &applied.result else { panic!() };
    assert_eq!(response.prev_kv.as_ref().unwrap().version, 1);
    let kv = store.get(b"a", store.current_revision()).unwrap().unwrap();
    assert_eq!((kv.value.clone(), kv.lease, kv.version), (bytes("1"), LeaseId(7), 2));
    run(&mut store, Command::Put(Put { ignore_lease: true, ..put("a", "2") }));
    assert_eq!(store.lease_keys(LeaseId(7)).unwrap(), vec![bytes("a")]);
    run(&mut store, Command::Put(put("a", "3")));
    assert_eq!(store.lease_keys(LeaseId(7)).unwrap(), Vec::<Bytes>::new(), "a put without lease detaches");
    let refused = run(&mut store, Command::Put(Put { ignore_value: true, ..put("new", "") }));
    assert_eq!(refused.result, Err(RequestError::KeyNotFound));
    let refused = run(&mut store, Command::Put(Put { lease: LeaseId(8), ..put("a", "4") }));
    assert_eq!((refused.result, refused.writes.len()), (Err(RequestError::LeaseNotFound), 0));
}

#[test]
fn compares_follow_etcd_on_present_missing_and_ranged_keys() {
    use CompareOperator::{Equal, Greater, Less, NotEqual};
    let store = filled(&[("a", "1"), ("b", "1"), ("b", "2")]);
    let table = [
        (compare(key("a"), Equal, CompareTarget::Value(bytes("1"))), true),
        (compare(key("a"), Less, CompareTarget::Value(bytes("2"))), true),
        (compare(key("x"), Equal, CompareTarget::Value(bytes(""))), false),
        (compare(key("x"), NotEqual, CompareTarget::Value(bytes("1"))), false),
        (compare(key("x"), Equal, CompareTarget::Version(0)), true),
        (compare(key("x"), Equal, CompareTarget::Create(Revision(0))), true),
        (compare(key("x"), Equal, CompareTarget::Mod(Revision(0))), true),
        (compare(key("x"), Equal, CompareTarget::Lease(LeaseId::NONE)), true),
        (compare(key("b"), Equal, CompareTarget::Mod(Revision(4))), true),
        (compare(key("b"), Greater, CompareTarget::Create(Revision(2))), true),
        (compare(span("a", "c"), Greater, CompareTarget::Create(Revision(1))), true),
        (compare(span("a", "c"), Equal, CompareTarget::Value(bytes("1"))), false),
        (compare(span("x", "z"), NotEqual, CompareTarget::Value(bytes("1"))), false),
        (compare(span("x", "\0"), Equal, CompareTarget::Version(0)), true),
    ];
    for (compare, expected) in table {
        let txn = Txn { compares: vec![compare.clone()], ..Txn::default() };
        let response = evaluate_read_only_txn(&store, &txn).unwrap().unwrap();
        assert_eq!(response.succeeded, expected, "{compare:?}");
    }
}

#[test]
fn a_transaction_takes_one_revision_and_later_operations_see_earlier_writes() {
    let mut store = filled(&[("a", "1"), ("b", "1")]);
    let all = Range::new(span("a", "z"));
    let past = Range { revision: Revision(3), ..all.clone() };
    let nested = Txn {
        // Holds only in the state before the transaction.
        compares: vec![compare(key("c"), CompareOperator::Equal, CompareTarget::Version(0))],
        success: vec![Op::Put(put("d", "nested"))],
        failure: vec![],
    };
    let txn = Txn {
        compares: vec![],
        success: vec![
            Op::Range(all.clone()),
            Op::Put(put("c", "new")),
            Op::DeleteRange(delete(span("a", "c"))),
            Op::Txn(nested),
            Op::Range(all),
            Op::Range(past),
        ],
        failure: vec![],
    };
    let applied = run(&mut store, Command::Txn(txn));
    assert_eq!(applied.revision, Revision(4));
    let response = txn_response(&applied);
    assert_eq!(response.revision, Revision(4));
    let [
        OpResponse::Range(before),
        OpResponse::Put(_),
        OpResponse::DeleteRange(deleted),
        OpResponse::Txn(nested),
        OpResponse::Range(after),
        OpResponse::Range(past),
    ] = &response.responses[..]
    else {
        panic!("{response:?}")
    };
    assert_eq!((keys(before), before.revision), (vec!["a", "b"], Revision(3)));
    assert_eq!(deleted.deleted, 2);
    assert_eq!((nested.succeeded, nested.revision), (true, Revision(0)));
    assert_eq!((keys(after), after.revision, after.count), (vec!["c", "d"], Revision(4), 2));
    assert_eq!(keys(past), vec!["a", "b"]);
    let order: Vec<_> = applied.events.iter().map(|event| event.kv.key.clone()).collect();
    assert_eq!(order, vec![bytes("c"), bytes("a"), bytes("b"), bytes("d")]);
}

#[test]
fn a_refused_operation_undoes_the_whole_transaction() {
    let mut store = filled(&[("a", "1")]);
    for (op, expected) in [
        (Op::Range(Range { revision: Revision(3), ..Range::new(key("a")) }), RequestError::FutureRevision),
        (Op::Put(Put { lease: LeaseId(5), ..put("z", "") }), RequestError::LeaseNotFound),
        (Op::Put(Put { ignore_lease: true, ..put("z", "") }), RequestError::KeyNotFound),
        (Op::Put(put("b", "again")), RequestError::DuplicateKey),
    ] {
        let txn = Txn { success: vec![Op::Put(put("b", "2")), op], ..Txn::default() };
        let applied = run(&mut store, Command::Txn(txn));
        assert_eq!(applied.result, Err(expected));
        assert_eq!(store.current_revision(), Revision(2));
        assert_eq!(store.get(b"b", Revision(2)).unwrap(), None);
    }
}

#[test]
fn ranges_limit_sort_count_and_filter_as_etcd() {
    // Revisions: c 2, a 3, b 4, a again 5.
    let store = filled(&[("c", "1"), ("a", "2"), ("b", "3"), ("a", "0")]);
    let base = Range::new(span("a", "z"));
    let table: Vec<(Range, Vec<&str>, bool)> = vec![
        (base.clone(), vec!["a", "b", "c"], false),
        (Range { limit: 2, ..base.clone() }, vec!["a", "b"], true),
        (Range { limit: 3, ..base.clone() }, vec!["a", "b", "c"], false),
        (Range { sort_order: SortOrder::Descend, limit: 1, ..base.clone() }, vec!["c"], true),
        (
            Range { sort_order: SortOrder::Ascend, sort_target: SortTarget::Create, ..base.clone() },
            vec!["c", "a", "b"],
            false,
        ),
        (
            Range { sort_order: SortOrder::Descend, sort_target: SortTarget::Mod, limit: 2, ..base.clone() },
            vec!["a", "b"],
            true,
        ),
        (
            Range { sort_order: SortOrder::Ascend, sort_target: SortTarget::Value, ..base.clone() },
            vec!["a", "c", "b"],
            false,
        ),
        // Order NONE with a target limits first (one more is read), then sorts.
        (Range { sort_target: SortTarget::Create, limit: 1, ..base.clone() }, vec!["a"], true),
        (Range { min_mod_revision: Revision(4), ..base.clone() }, vec!["a", "b"], false),
        (Range { max_mod_revision: Revision(4), limit: 1, ..base.clone() }, vec!["b"], true),
        (Range { min_create_revision: Revision(3), ..base.clone() }, vec!["a", "b"], false),
        (Range { max_create_revision: Revision(3), ..base.clone() }, vec!["a", "c"], false),
    ];
    for (request, expected, more) in table {
        let response = range(&store, &request).unwrap();
        assert_eq!((keys(&response), response.more, response.count), (expected, more, 3), "{request:?}");
    }
    let counted = range(&store, &Range { count_only: true, limit: 1, ..base.clone() }).unwrap();
    assert_eq!((counted.count, counted.kvs.len(), counted.more), (3, 0, false));
    let names = range(&store, &Range { keys_only: true, ..base.clone() }).unwrap();
    assert!(names.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision.0 > 0));
    let past = range(&store, &Range { revision: Revision(3), ..base.clone() }).unwrap();
    assert_eq!((keys(&past), past.revision), (vec!["a", "c"], Revision(5)));
    assert_eq!(range(&store, &Range { revision: Revision(6), ..base }).unwrap_err(), RequestError::FutureRevision);
}

#[test]
fn compaction_refuses_the_past_and_the_future_and_keeps_its_own_revision_readable() {
    let mut store = filled(&[("a", "1"), ("a", "2"), ("a", "3")]);
    let compact = |revision| Command::Compact { revision: Revision(revision) };
    assert_eq!(run(&mut store, compact(5)).result, Err(RequestError::FutureRevision));
    assert!(run(&mut store, compact(3)).result.is_ok());
    assert_eq!(run(&mut store, compact(3)).result, Err(RequestError::Compacted));
    let at = |revision| Range { revision: Revision(revision), ..Range::new(key("a")) };
    assert_eq!(range(&store, &at(2)).unwrap_err(), RequestError::Compacted);
    assert_eq!(range(&store, &at(3)).unwrap().kvs[0].value, bytes("2"));
    assert_eq!(store.current_revision(), Revision(4), "a compaction takes no revision");
}

#[test]
fn a_revocation_deletes_the_keys_of_all_its_leases_at_one_revision() {
    let mut store = MemoryStore::default();
    for id in [1, 2] {
        let grant = LeaseGrant { id: LeaseId(id), ttl_seconds: 10, now: ClusterTime(500) };
        assert!(run(&mut store, Command::LeaseGrant(grant.clone())).result.is_ok());
        assert_eq!(run(&mut store, Command::LeaseGrant(grant)).result, Err(RequestError::LeaseExists));
    }
    assert_eq!(store.cluster_time(), ClusterTime(500));
    for (name, lease) in [("b", 1), ("a", 1), ("c", 2), ("kept", 0)] {
        run(&mut store, Command::Put(Put { lease: LeaseId(lease), ..put(name, "") }));
    }
    let applied = run(&mut store, Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(1), LeaseId(9), LeaseId(2)] }));
    let Ok(Response::LeaseRevoke(response)) = &applied.result else { panic!() };
    assert_eq!((response.revision, response.revoked.clone()), (Revision(6), vec![LeaseId(1), LeaseId(2)]));
    let gone: Vec<_> = applied.events.iter().map(|event| event.kv.key.clone()).collect();
    assert_eq!(gone, vec![bytes("a"), bytes("b"), bytes("c")]);
    let again = run(&mut store, Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(1)] }));
    assert_eq!((again.result, again.revision), (Err(RequestError::LeaseNotFound), Revision(6)));
}

#[test]
fn a_checkpoint_moves_deadlines_forward_only() {
    let mut store = MemoryStore::default();
    run(&mut store, Command::LeaseGrant(LeaseGrant { id: LeaseId(1), ttl_seconds: 10, now: ClusterTime(0) }));
    for (deadline, expected) in [(25_000, 25_000), (20_000, 25_000)] {
        let deadlines = vec![
            LeaseDeadline { id: LeaseId(1), deadline: ClusterTime(deadline) },
            LeaseDeadline { id: LeaseId(2), deadline: ClusterTime(deadline) },
        ];
        let checkpoint = LeaseCheckpoint { now: ClusterTime(15_000), deadlines };
        assert!(run(&mut store, Command::LeaseCheckpoint(checkpoint)).result.is_ok());
        assert_eq!(store.leases().unwrap()[0].deadline, ClusterTime(expected));
    }
    assert_eq!(store.current_revision(), Revision(1));
}

#[test]
fn alarms_refuse_growth_or_everything() {
    let mut store = filled(&[("a", "1")]);
    run(&mut store, Command::AlarmActivate(Alarm { member: 1, kind: AlarmKind::NoSpace }));
    let with_put = Txn { failure: vec![Op::Put(put("a", ""))], ..Txn::default() };
    let without_put = Txn { success: vec![Op::DeleteRange(delete(key("x")))], ..Txn::default() };
    assert_eq!(run(&mut store, Command::Put(put("a", "2"))).result, Err(RequestError::NoSpace));
    assert_eq!(run(&mut store, Command::Txn(with_put)).result, Err(RequestError::NoSpace));
    assert!(run(&mut store, Command::Txn(without_put)).result.is_ok());
    assert!(run(&mut store, Command::DeleteRange(delete(key("a")))).result.is_ok());
    run(&mut store, Command::AlarmActivate(Alarm { member: 2, kind: AlarmKind::Corrupt }));
    assert_eq!(run(&mut store, Command::DeleteRange(delete(key("a")))).result, Err(RequestError::Corrupt));
    run(&mut store, Command::AlarmDeactivate(Alarm { member: 2, kind: AlarmKind::Corrupt }));
    run(&mut store, Command::AlarmDeactivate(Alarm { member: 1, kind: AlarmKind::NoSpace }));
    assert!(run(&mut store, Command::Put(put("a", "2"))).result.is_ok());
}

#[test]
fn commands_committed_together_see_each_other() {
    let store = filled(&[("a", "1")]);
    let must_be_new = |value: &str| {
        Command::Txn(Txn {
            compares: vec![compare(key("b"), CompareOperator::Equal, CompareTarget::Create(Revision(0)))],
            success: vec![Op::Put(put("b", value))],
            failure: vec![Op::Range(Range::new(key("b")))],
        })
    };
    let commands = [must_be_new("first"), must_be_new("second"), Command::Put(put("b", "third"))];
    let all = apply_all(&store, &commands).unwrap();
    let revisions: Vec<_> = all.iter().map(|applied| applied.revision.0).collect();
    assert_eq!(revisions, vec![3, 3, 4]);
    let [OpResponse::Range(found)] = &txn_response(&all[1]).responses[..] else { panic!() };
    assert_eq!(found.kvs[0].value, bytes("first"));
    assert_eq!(all[2].events[0].kv.version, 2);
}

#[test]
fn validation_refuses_what_etcd_refuses() {
    let puts = |names: &[&str]| names.iter().map(|name| Op::Put(put(name, ""))).collect::<Vec<_>>();
    let then = |success: Vec<Op>| Txn { success, ..Txn::default() };
    let either = |success: Vec<Op>, failure: Vec<Op>| Op::Txn(Txn { compares: vec![], success, failure });
    let del = |range: KeyRange| Op::DeleteRange(delete(range));
    let names: Vec<String> = (0..129).map(|index| format!("k{index}")).collect();
    let many = |count: usize| names.iter().take(count).map(|name| Op::Put(put(name, ""))).collect::<Vec<_>>();
    let table: Vec<(Txn, Result<(), RequestError>)> = vec![
        (then(puts(&["a", "b"])), Ok(())),
        (then(puts(&["a", "a"])), Err(RequestError::DuplicateKey)),
        (then(vec![del(span("a", "c")), Op::Put(put("b", ""))]), Err(RequestError::DuplicateKey)),
        (then(vec![Op::Put(put("b", "")), del(span("a", "c"))]), Err(RequestError::DuplicateKey)),
        (then(vec![Op::Put(put("c", "")), del(span("a", "c"))]), Ok(())),
        // etcd's interval of a deletion "from key" is empty, and it looks at no deletion in a later nested transaction.
        (then(vec![del(span("a", "\0")), Op::Put(put("z", ""))]), Ok(())),
        (then(vec![either(puts(&["a"]), vec![]), either(vec![del(key("a"))], vec![])]), Ok(())),
        (
            then(vec![either(vec![del(key("a"))], vec![]), either(puts(&["a"]), vec![])]),
            Err(RequestError::DuplicateKey),
        ),
        (then(vec![del(span("a", "c")), del(key("b"))]), Ok(())),
        (then(vec![either(puts(&["a"]), puts(&["a"]))]), Ok(())),
        (then(vec![either(puts(&["a"]), vec![del(key("a"))])]), Ok(())),
        (then(vec![either(puts(&["a"]), vec![]), either(vec![], puts(&["a"]))]), Err(RequestError::DuplicateKey)),
        (then(vec![either(vec![], puts(&["a"])), Op::Put(put("a", ""))]), Err(RequestError::DuplicateKey)),
        (then(vec![either(vec![], puts(&["a"])), del(key("a"))]), Err(RequestError::DuplicateKey)),
        (Txn { success: puts(&["a"]), failure: puts(&["a"]), compares: vec![] }, Ok(())),
        (then(puts(&[""])), Err(RequestError::EmptyKey)),
        (then(many(128)), Ok(())),
        (then(many(129)), Err(RequestError::TooManyOps)),
        // The outer level takes one of 128, so 127 are left for the nested one.
        (then(vec![either(many(127), vec![])]), Ok(())),
        (then(vec![either(many(128), vec![])]), Err(RequestError::TooManyOps)),
    ];
    for (txn, expected) in table {
        assert_eq!(validate::txn(&txn, validate::TXN_OPS_MAX_DEFAULT), expected, "{txn:?}");
    }
    let provided = Put { ignore_value: true, ..put("a", "1") };
    assert_eq!(validate::put(&provided), Err(RequestError::ValueProvided));
    let provided = Put { ignore_lease: true, lease: LeaseId(1), ..put("a", "1") };
    assert_eq!(validate::put(&provided), Err(RequestError::LeaseProvided));
    assert_eq!(validate::range(&Range::new(span("", "\0"))), Err(RequestError::EmptyKey));
    assert_eq!(validate::lease_ttl(9_000_000_001), Err(RequestError::LeaseTtlTooLarge));
}

#[test]
fn a_grant_without_a_time_counts_from_the_replicated_one() {
    let mut store = MemoryStore::default();
    let grant = |id, now| LeaseGrant { id: LeaseId(id), ttl_seconds: 3, now: ClusterTime(now) };
    run(&mut store, Command::LeaseGrant(grant(1, 18_000)));
    // A leader whose lease table is not open yet stamps nothing; one that was deposed may be behind.
    run(&mut store, Command::LeaseGrant(grant(2, 0)));
    run(&mut store, Command::LeaseGrant(grant(3, 17_000)));
    for id in 1..=3 {
        assert_eq!(store.lease(LeaseId(id)).unwrap().unwrap().deadline, ClusterTime(21_000), "lease {id}");
    }
    assert_eq!(store.cluster_time(), ClusterTime(18_000));
}
