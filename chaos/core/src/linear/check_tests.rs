use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{
    history::{Action, Answer, Operation, Outcome},
    linear::{
        register::Kind,
        search::{Found, search},
    },
    made::{Dice, failed, history, ok, play, unknown},
};

fn read(process: u32, begin: u64, end: u64, value: Option<i64>) -> Operation {
    ok(process, begin, end, Action::Read { key: "x".into() }, Answer { value, ..Answer::default() })
}

fn write(process: u32, begin: u64, end: u64, value: i64) -> Operation {
    ok(process, begin, end, Action::Write { key: "x".into(), value }, Answer::default())
}

fn lost_write(process: u32, begin: u64, end: u64, value: i64) -> Operation {
    unknown(process, begin, end, Action::Write { key: "x".into(), value })
}

fn cas(process: u32, begin: u64, end: u64, from: Option<i64>, to: i64, swapped: bool) -> Operation {
    let answer = Answer { swapped: Some(swapped), ..Answer::default() };
    ok(process, begin, end, Action::Cas { key: "x".into(), from, to }, answer)
}

fn judge(operations: Vec<Operation>) -> Verdict {
    check(&history(operations), Limits::default())
}

fn holds(operations: Vec<Operation>) {
    let verdict = judge(operations);
    assert_eq!(verdict.outcome, Judgement::Holds, "{verdict}");
}

/// Fails the history with a counterexample of `size` operations.
fn violated(operations: Vec<Operation>, size: usize) -> Violation {
    let verdict = judge(operations);
    assert_eq!(verdict.outcome, Judgement::Violated, "{verdict}");
    let violation = verdict.violations.into_iter().next().unwrap();
    assert_eq!(violation.timeline.bars.len(), size, "{violation}");
    violation
}

#[test]
fn nothing_is_not_a_pass_on_something() {
    assert_eq!(judge(Vec::new()).outcome, Judgement::Empty);
}

#[test]
fn overlapping_operations_may_take_effect_in_either_order() {
    holds(vec![write(0, 0, 10, 1), read(1, 5, 8, None), read(2, 5, 9, Some(1)), read(1, 9, 12, Some(1))]);
}

#[test]
fn a_stale_read_is_caught_and_explained() {
    let violation =
        violated(vec![write(0, 0, 10, 1), write(0, 20, 30, 2), read(1, 40, 50, Some(1)), read(2, 60, 70, Some(2))], 3);
    assert!(violation.explanation.contains("\"read x 1\""), "{violation}");
    assert!(violation.timeline.bars[2].guilty, "{violation}");
}

#[test]
fn a_lost_acknowledged_write_is_caught() {
    violated(vec![write(0, 0, 10, 1), read(1, 20, 30, None)], 2);
}

#[test]
fn reading_what_nobody_wrote_is_caught() {
    violated(vec![write(0, 0, 10, 1), read(1, 20, 30, Some(9))], 1);
}

#[test]
fn reading_a_value_before_its_write_began_is_caught() {
    violated(vec![read(1, 0, 5, Some(1)), write(0, 10, 20, 1)], 1);
}

#[test]
fn two_readers_that_disagree_on_the_order_are_caught() {
    // Both writes overlap everything; one reader sees 1 then 2, the other 2 then 1.
    let operations = vec![
        write(0, 0, 100, 1),
        write(1, 0, 100, 2),
        read(2, 10, 20, Some(1)),
        read(3, 30, 40, Some(2)),
        read(2, 50, 60, Some(1)),
    ];
    violated(operations, 5);
}

#[test]
fn two_swaps_from_one_value_cannot_both_succeed() {
    let swaps = vec![write(0, 0, 10, 1), cas(1, 20, 40, Some(1), 2, true), cas(2, 20, 40, Some(1), 3, true)];
    violated(swaps, 3);
    holds(vec![write(0, 0, 10, 1), cas(1, 20, 40, Some(1), 2, true), cas(2, 20, 40, Some(1), 3, false)]);
}

#[test]
fn a_refused_swap_proves_that_the_value_was_another() {
    violated(vec![write(0, 0, 10, 1), cas(1, 20, 40, Some(1), 2, false)], 2);
    holds(vec![write(0, 0, 10, 1), lost_write(2, 0, 5, 7), cas(1, 20, 40, Some(1), 2, false)]);
}

#[test]
fn an_unknown_write_may_land_late_or_never_but_only_once() {
    holds(vec![lost_write(0, 0, 5, 1), read(1, 100, 110, None), read(1, 200, 210, Some(1))]);
    holds(vec![lost_write(0, 0, 5, 1), read(1, 100, 110, None)]);
    let twice =
        vec![lost_write(0, 0, 5, 1), read(1, 100, 110, Some(1)), write(1, 120, 130, 2), read(1, 200, 210, Some(1))];
    violated(twice, 4);
}

#[test]
fn a_failed_write_must_not_be_seen() {
    let refused = failed(0, 0, 5, Action::Write { key: "x".into(), value: 1 });
    violated(vec![refused, read(1, 10, 20, Some(1))], 1);
}

#[test]
fn a_deletion_leaves_nothing() {
    let deletion = || ok(0, 20, 30, Action::Delete { key: "x".into() }, Answer::default());
    holds(vec![write(0, 0, 10, 1), deletion(), read(1, 40, 50, None), cas(1, 60, 70, None, 2, true)]);
    violated(vec![write(0, 0, 10, 1), deletion(), read(1, 40, 50, Some(1))], 3);
}

#[test]
fn keys_are_judged_apart() {
    let other = ok(1, 40, 50, Action::Read { key: "y".into() }, Answer::default());
    holds(vec![write(0, 0, 10, 1), other]);
}

#[test]
fn a_search_that_gives_up_does_not_pass() {
    let operations: Vec<_> = (0..8).map(|client| write(client, 0, 100, i64::from(client))).collect();
    let verdict = check(&history(operations), Limits { states_max: 1 });
    assert_eq!(verdict.outcome, Judgement::Undecided);
    assert!(!verdict.passes());
}

type Registers = HashMap<String, i64>;

/// Registers played by clients from a seed.
fn played(seed: u64, clients: u32, count: usize, keys: u64, unknown_percent: u64) -> Vec<Operation> {
    let act = |dice: &mut Dice, number: usize| {
        let key = format!("r{}", dice.below(keys));
        let value = i64::try_from(number).unwrap() + 1;
        match dice.below(10) {
            0..5 => Action::Read { key },
            5..8 => Action::Write { key, value },
            _ => Action::Cas { key, from: Some(value - 1 - i64::try_from(dice.below(20)).unwrap()), to: value },
        }
    };
    let effect = |registers: &mut Registers, action: &Action| match action {
        Action::Read { key } => Answer { value: registers.get(key).copied(), ..Answer::default() },
        Action::Write { key, value } => {
            registers.insert(key.clone(), *value);
            Answer::default()
        }
        Action::Cas { key, from, to } => {
            let swapped = registers.get(key).copied() == *from;
            let found = registers.get(key).copied();
            if swapped {
                registers.insert(key.clone(), *to);
            }
            let present = (!swapped).then_some(found.is_some());
            Answer { swapped: Some(swapped), value: found.filter(|_| !swapped), present, ..Answer::default() }
        }
        other => panic!("not a register's: {other:?}"),
    };
    play(&mut Dice(seed), clients, count, unknown_percent, &mut Registers::new(), act, effect)
}

/// Gives a late read the value that an early one saw.
fn make_stale(operations: &mut [Operation], dice: &mut Dice) -> bool {
    let reads: Vec<_> = (0..operations.len())
        .filter(|index| matches!(operations[*index].action, Action::Read { .. }))
        .filter(|index| operations[*index].answer().is_some_and(|answer| answer.value.is_some()))
        .collect();
    let victim = reads[reads.len() / 2 + usize::try_from(dice.below(reads.len() as u64 / 2)).unwrap()];
    let early = reads.iter().copied().find(|index| operations[*index].action == operations[victim].action).unwrap();
    let value = operations[early].answer().unwrap().value;
    let changed = operations[victim].answer().unwrap().value != value;
    operations[victim].outcome = Outcome::Ok(Answer { value, ..Answer::default() });
    changed
}

#[test]
fn a_hundred_thousand_operations_hold_and_one_stale_read_among_them_does_not() {
    for (clients, keys) in [(10, 1), (30, 20)] {
        let mut operations = played(1, clients, 100_000, keys, 2);
        let verdict = judge(operations.clone());
        assert_eq!(verdict.outcome, Judgement::Holds, "{verdict}");
        assert!(make_stale(&mut operations, &mut Dice(2)));
        let verdict = judge(operations);
        assert_eq!(verdict.outcome, Judgement::Violated);
        assert!(verdict.violations[0].timeline.bars.len() <= 8, "{verdict}");
    }
}

#[test]
fn played_histories_hold_whatever_the_seed() {
    for seed in 0..200 {
        holds(played(seed, 8, 300, 2, 10));
    }
}

#[test]
fn stale_reads_are_caught_whatever_the_seed() {
    for seed in 0..200 {
        let mut operations = played(seed, 5, 400, 2, 5);
        if make_stale(&mut operations, &mut Dice(seed)) {
            let verdict = judge(operations);
            assert_eq!(verdict.outcome, Judgement::Violated, "seed {seed}");
            assert!(verdict.violations[0].timeline.bars.len() <= 10, "seed {seed}: {verdict}");
        }
    }
}

/// Every order, tried without any wit.
fn some_order_exists(steps: &[Step], placed: &mut Vec<bool>, value: u32) -> bool {
    let open = |index: usize| !placed[index] && !steps[index].is_unknown();
    let deadline = (0..steps.len()).filter(|index| open(*index)).map(|index| steps[index].returned).min();
    let Some(deadline) = deadline else { return true };
    for index in 0..steps.len() {
        let next = steps[index].kind.apply(value).filter(|_| !placed[index] && steps[index].call <= deadline);
        if let Some(next) = next {
            placed[index] = true;
            if some_order_exists(steps, placed, next) {
                return true;
            }
            placed[index] = false;
        }
    }
    false
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let value = || 0_u32..4;
    prop_oneof![
        4 => value().prop_map(Kind::Is),
        1 => value().prop_map(Kind::IsNot),
        3 => value().prop_map(Kind::Set),
        2 => (value(), value()).prop_map(|(from, to)| Kind::Swap(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_search_agrees_with_trying_every_order(
        drawn in prop::collection::vec((0_u64..30, 1_u64..12, any_kind(), 0_u32..6), 1..8)
    ) {
        let mut steps: Vec<_> = drawn
            .into_iter()
            .map(|(call, length, kind, unknown)| {
                let returned = if unknown == 0 { u64::MAX } else { call + length };
                Step { call, returned, kind, source: 0 }
            })
            .collect();
        steps.sort_by_key(|step| step.call);
        let expected = some_order_exists(&steps, &mut vec![false; steps.len()], 0);
        let found = search(&tighten(&steps), 1_000_000);
        prop_assert_eq!(matches!(found, Found::Order(_)), expected, "{:?}", found);
        if let Found::Stuck(stuck) = found {
            let (few, _) = shrink(&steps, stuck.time, 1_000_000);
            prop_assert!(!some_order_exists(&few, &mut vec![false; few.len()], 0), "shrunk too far: {:?}", few);
        }
    }
}
