//! `apply` against a model that is as simple as can be: the whole state copied for every revision.
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use xebec_store_core::{
    Command, Compare, CompareOperator, CompareTarget, DeleteRange, EventKind, KeyRange, KeyValue, LeaseGrant, LeaseId,
    LeaseRevoke, MemoryStore, Op, OpResponse, Put, Range, ReadView, Response, Revision, Txn, apply, apply_all,
    evaluate_range, validate,
};

type State = BTreeMap<Bytes, KeyValue>;

/// One copy of the state per revision, from 1 on.
struct Model {
    states: Vec<State>,
    leases: Vec<LeaseId>,
    /// Whether the command that runs has changed a key, be it back again.
    changed: Cell<bool>,
}

impl Model {
    fn new() -> Model {
        Model { states: vec![State::new()], leases: Vec::new(), changed: Cell::new(false) }
    }

    fn revision(&self) -> Revision {
        Revision(i64::try_from(self.states.len()).unwrap())
    }

    fn at(&self, revision: Revision) -> &State {
        &self.states[usize::try_from(revision.0).unwrap() - 1]
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    /// Runs a command on a copy; keeps the copy if keys changed and nothing was refused.
    fn run(&mut self, command: &Command) -> bool {
        let before = self.now().clone();
        let next = self.revision().next();
        let mut state = before.clone();
        self.changed.set(false);
        let accepted = match command {
            Command::Put(put) => self.put(&mut state, put, next),
            Command::DeleteRange(delete) => {
                self.retain(&mut state, |kv| !delete.range.contains(&kv.key));
                true
            }
            Command::Txn(txn) => self.txn(&before, &mut state, txn, next),
            Command::LeaseGrant(grant) => {
                let is_new = !self.leases.contains(&grant.id);
                if is_new {
                    self.leases.push(grant.id);
                }
                is_new
            }
            Command::LeaseRevoke(revoke) => {
                let exists = revoke.ids.iter().any(|id| self.leases.contains(id));
                self.retain(&mut state, |kv| kv.lease.is_none() || !revoke.ids.contains(&kv.lease));
                self.leases.retain(|id| !revoke.ids.contains(id));
                exists
            }
            _ => unreachable!("not generated"),
        };
        if accepted && self.changed.get() {
            self.states.push(state);
        }
        accepted
    }

    fn retain(&self, state: &mut State, keep: impl Fn(&KeyValue) -> bool) {
        let keys = state.len();
        state.retain(|_, kv| keep(kv));
        self.changed.set(self.changed.get() || state.len() < keys);
    }

    fn put(&self, state: &mut State, put: &Put, revision: Revision) -> bool {
        let old = state.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && old.is_none() {
            return false;
        }
        if !put.lease.is_none() && !self.leases.contains(&put.lease) {
            return false;
        }
        let mut kv = old.unwrap_or(KeyValue { key: put.key.clone(), create_revision: revision, ..KeyValue::default() });
        kv.mod_revision = revision;
        kv.version += 1;
        if !put.ignore_value {
            kv.value = put.value.clone();
        }
        if !put.ignore_lease {
            kv.lease = put.lease;
        }
        state.insert(put.key.clone(), kv);
        self.changed.set(true);
        true
    }

    fn txn(&self, before: &State, state: &mut State, txn: &Txn, revision: Revision) -> bool {
        let holds = txn.compares.iter().all(|compare| {
            let found: Vec<_> = before.values().filter(|kv| compare.range.contains(&kv.key)).collect();
            let check = |kv: &KeyValue| match (&compare.target, compare.operator) {
                (CompareTarget::Version(version), CompareOperator::Equal) => kv.version == *version,
                (CompareTarget::Version(version), CompareOperator::Greater) => kv.version > *version,
                (CompareTarget::Value(value), CompareOperator::NotEqual) => kv.value != *value,
                other => unreachable!("not generated: {other:?}"),
            };
            if found.is_empty() {
                !matches!(compare.target, CompareTarget::Value(_)) && check(&KeyValue::default())
            } else {
                found.into_iter().all(check)
            }
        });
        let ops = if holds { &txn.success } else { &txn.failure };
        ops.iter().all(|op| match op {
            Op::Put(put) => self.put(state, put, revision),
            Op::DeleteRange(delete) => {
                self.retain(state, |kv| !delete.range.contains(&kv.key));
                true
            }
            Op::Txn(txn) => self.txn(before, state, txn, revision),
            Op::Range(_) => true,
        })
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "a\0", "ab", "b", "c"]).prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop::sample::select(vec!["", "", "b", "c", "d", "\0"]);
    (key(), end).prop_map(|(start, end)| KeyRange::from_wire(start, Bytes::from_static(end.as_bytes())))
}

fn put() -> impl Strategy<Value = Put> {
    (key(), "[xy]?", 0i64..4, any::<bool>(), 0u8..8).prop_map(|(key, value, lease, prev_kv, ignore)| {
        let (ignore_value, ignore_lease) = (ignore == 0, ignore == 1);
        Put {
            key,
            value: if ignore_value { Bytes::new() } else { Bytes::from(value) },
            lease: if ignore_lease { LeaseId::NONE } else { LeaseId(lease) },
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        (0i64..3).prop_map(|version| (CompareTarget::Version(version), CompareOperator::Equal)),
        (0i64..2).prop_map(|version| (CompareTarget::Version(version), CompareOperator::Greater)),
        Just((CompareTarget::Value(Bytes::from_static(b"x")), CompareOperator::NotEqual)),
    ];
    (range(), relation).prop_map(|(range, (target, operator))| Compare { range, operator, target })
}

fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        3 => put().prop_map(Op::Put),
        2 => range().prop_map(|range| Op::DeleteRange(DeleteRange { range, prev_kv: true })),
        2 => range().prop_map(|range| Op::Range(Range::new(range))),
    ];
    let ops = leaf.prop_recursive(2, 8, 3, |inner| {
        let list = prop::collection::vec(inner, 0..3);
        (prop::collection::vec(compare(), 0..2), list.clone(), list)
            .prop_map(|(compares, success, failure)| Op::Txn(Txn { compares, success, failure }))
    });
    let list = prop::collection::vec(ops, 0..4);
    (prop::collection::vec(compare(), 0..3), list.clone(), list).prop_map(|(compares, success, failure)| Txn {
        compares,
        success,
        failure,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => put().prop_map(Command::Put),
        2 => range().prop_map(|range| Command::DeleteRange(DeleteRange { range, prev_kv: true })),
        4 => txn()
            .prop_filter("valid", |txn| validate::txn(txn, validate::TXN_OPS_MAX_DEFAULT).is_ok())
            .prop_map(Command::Txn),
        2 => (1i64..4).prop_map(|id| Command::LeaseGrant(LeaseGrant {
            id: LeaseId(id),
            ttl_seconds: 10,
            now: xebec_store_core::ClusterTime(0),
        })),
        1 => prop::collection::vec((1i64..4).prop_map(LeaseId), 1..3)
            .prop_map(|ids| Command::LeaseRevoke(LeaseRevoke { ids })),
    ]
}

fn deleted_in(response: &Response) -> i64 {
    fn in_op(op: &OpResponse) -> i64 {
        match op {
            OpResponse::DeleteRange(response) => response.deleted,
            OpResponse::Txn(txn) => txn.responses.iter().map(in_op).sum(),
            _ => 0,
        }
    }
    match response {
        Response::DeleteRange(response) => response.deleted,
        Response::Txn(txn) => txn.responses.iter().map(in_op).sum(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn apply_agrees_with_the_model(commands in prop::collection::vec(command(), 1..30), probe in range()) {
        let mut store = MemoryStore::default();
        let mut model = Model::new();
        for command in &commands {
            let before = model.now().clone();
            let applied = apply(&store, command).unwrap();
            prop_assert_eq!(applied.result.is_ok(), model.run(command), "{:?} {:?}", command, &applied.result);
            store.commit(&applied);
            prop_assert_eq!(store.current_revision(), model.revision());
            // Events say exactly how the state changed.
            let mut replayed = before.clone();
            let deletions = applied.events.iter().filter(|event| event.kind == EventKind::Delete).count();
            for event in &applied.events {
                prop_assert_eq!(event.kv.mod_revision, model.revision());
                let is_new = event.kind == EventKind::Put && event.kv.version == 1;
                let expected = if is_new { None } else { before.get(&event.kv.key) };
                prop_assert_eq!(event.prev_kv.as_ref(), expected);
                match event.kind {
                    EventKind::Put => replayed.insert(event.kv.key.clone(), event.kv.clone()),
                    EventKind::Delete => replayed.remove(&event.kv.key),
                };
            }
            prop_assert_eq!(&replayed, model.now());
            if let Ok(response) = &applied.result && !matches!(response, Response::LeaseRevoke(_)) {
                prop_assert_eq!(deleted_in(response), i64::try_from(deletions).unwrap());
            }
        }
        for revision in 1..=model.revision().0 {
            let request = Range { revision: Revision(revision), ..Range::new(probe.clone()) };
            let found = evaluate_range(&store, &request).unwrap().unwrap();
            let expected: Vec<_> =
                model.at(Revision(revision)).values().filter(|kv| probe.contains(&kv.key)).cloned().collect();
            prop_assert_eq!(found.count, i64::try_from(expected.len()).unwrap());
            prop_assert_eq!(found.kvs, expected);
        }
    }

    #[test]
    fn commands_applied_together_come_to_the_same_as_one_by_one(
        commands in prop::collection::vec(command(), 1..20),
        split in 0usize..20,
    ) {
        let mut store = MemoryStore::default();
        let (first, second) = commands.split_at(split.min(commands.len()));
        let mut together = Vec::new();
        for part in [first, second] {
            let all = apply_all(&store, part).unwrap();
            all.iter().for_each(|applied| store.commit(applied));
            together.extend(all);
        }
        let mut single = MemoryStore::default();
        for (command, together) in commands.iter().zip(&together) {
            let alone = apply(&single, command).unwrap();
            single.commit(&alone);
            prop_assert_eq!(&alone, together);
        }
    }
}
