use std::collections::HashMap;

use super::*;
use crate::{
    history::{Action, Answer, MicroOperation, Operation, Outcome},
    made::{Dice, failed, history, ok, play, unknown},
    verdict::Judgement,
};

/// `ax1` appends 1 to x; `rx` reads x, `rx12` reads [1, 2] from it.
fn txn(process: u32, begin: u64, end: u64, script: &str) -> Operation {
    let (ops, reads) = parse(script);
    ok(process, begin, end, Action::Txn { ops }, Answer { reads: Some(reads), ..Answer::default() })
}

fn parse(script: &str) -> (Vec<MicroOperation>, Vec<Option<Vec<i64>>>) {
    let steps = script.split(' ').map(|word| {
        let key = word[1..2].to_owned();
        let digits: Vec<i64> = word[2..].chars().map(|digit| i64::from(digit.to_digit(10).unwrap())).collect();
        match &word[..1] {
            "a" => (MicroOperation::Append { key, value: digits[0] }, None),
            _ => (MicroOperation::Read { key }, Some(digits)),
        }
    });
    steps.unzip()
}

fn holds(operations: Vec<Operation>) {
    let verdict = check(&history(operations));
    assert_eq!(verdict.outcome, Judgement::Holds, "{verdict}");
}

#[track_caller]
fn anomalies(operations: Vec<Operation>, expected: &[&str]) -> Verdict {
    let verdict = check(&history(operations));
    let found: Vec<_> = verdict.violations.iter().map(|violation| violation.anomaly.as_str()).collect();
    assert_eq!(found, expected, "{verdict}");
    verdict
}

#[test]
fn one_after_the_other_is_serializable() {
    holds(vec![txn(0, 0, 1, "ax1"), txn(0, 2, 3, "rx1 ay2"), txn(1, 4, 5, "rx1 ry2")]);
}

#[test]
fn writes_that_order_each_other_both_ways_are_g0() {
    let verdict =
        anomalies(vec![txn(0, 0, 9, "ax1 ay1"), txn(1, 0, 9, "ax2 ay2"), txn(2, 10, 11, "rx12 ry21")], &["G0"]);
    assert_eq!(verdict.violations[0].timeline.bars.len(), 2, "{verdict}");
    assert!(verdict.violations[0].explanation.contains("ww"), "{verdict}");
}

#[test]
fn two_that_read_each_other_are_g1c() {
    anomalies(vec![txn(0, 0, 9, "ax1 ry2"), txn(1, 0, 9, "ay2 rx1")], &["G1c"]);
}

#[test]
fn a_read_of_a_failed_append_is_g1a() {
    let (ops, _) = parse("ax1");
    anomalies(vec![failed(0, 0, 1, Action::Txn { ops }), txn(1, 2, 3, "rx1")], &["G1a"]);
}

#[test]
fn a_read_between_two_appends_of_one_transaction_is_g1b() {
    anomalies(vec![txn(0, 0, 9, "ax1 ax2"), txn(1, 0, 9, "rx1")], &["G1b"]);
}

#[test]
fn a_lost_update_is_g_single() {
    // Both read the empty list and append; the later one did not see the earlier one's append.
    anomalies(vec![txn(0, 0, 9, "rx ax1"), txn(1, 0, 9, "rx ax2"), txn(2, 10, 11, "rx12")], &["G-single"]);
}

#[test]
fn write_skew_is_g2() {
    anomalies(vec![txn(0, 0, 9, "rx ay1"), txn(1, 0, 9, "ry ax1"), txn(2, 10, 11, "rx1 ry1")], &["G2"]);
}

#[test]
fn a_stale_read_is_a_cycle_with_real_time() {
    anomalies(vec![txn(0, 0, 1, "ax1"), txn(1, 2, 3, "rx"), txn(1, 4, 5, "rx1")], &["G-single-realtime"]);
}

#[test]
fn an_acknowledged_append_that_is_never_seen_is_a_cycle() {
    anomalies(vec![txn(0, 0, 1, "ax1"), txn(1, 2, 3, "rx")], &["G-single-realtime"]);
    let (ops, _) = parse("ax1");
    holds(vec![unknown(0, 0, 1, Action::Txn { ops }), txn(1, 2, 3, "rx")]);
}

#[test]
fn an_unknown_append_may_be_seen_late_but_not_come_and_go() {
    let lost = || unknown(0, 0, 1, Action::Txn { ops: parse("ax1").0 });
    holds(vec![lost(), txn(1, 2, 3, "rx"), txn(1, 4, 5, "rx1")]);
    anomalies(vec![lost(), txn(1, 2, 3, "rx1"), txn(1, 4, 5, "rx")], &["G-single-realtime"]);
}

#[test]
fn lists_that_fork_repeat_or_invent_are_named() {
    let two = || vec![txn(0, 0, 9, "ax1"), txn(1, 0, 9, "ax2")];
    anomalies([two(), vec![txn(2, 10, 11, "rx1"), txn(3, 10, 11, "rx21")]].concat(), &["incompatible-order"]);
    anomalies([two(), vec![txn(2, 10, 11, "rx121")]].concat(), &["duplicate-elements"]);
    anomalies([two(), vec![txn(2, 10, 11, "rx123")]].concat(), &["unwritten"]);
    anomalies(vec![txn(0, 0, 9, "ax1 rx")], &["internal"]);
}

type Lists = HashMap<String, Vec<i64>>;

fn played(seed: u64, count: usize) -> Vec<Operation> {
    let act = |dice: &mut Dice, number: usize| {
        let base = i64::try_from(number).unwrap() * 10;
        let ops = (0..=dice.below(3)).map(|step| {
            let key = format!("l{}", (number as u64 / 200) * 3 + dice.below(3));
            match dice.chance(50) {
                true => MicroOperation::Append { key, value: base + i64::try_from(step).unwrap() },
                false => MicroOperation::Read { key },
            }
        });
        Action::Txn { ops: ops.collect() }
    };
    let effect = |lists: &mut Lists, action: &Action| {
        let Action::Txn { ops } = action else { panic!("only transactions") };
        let reads = ops.iter().map(|step| match step {
            MicroOperation::Append { key, value } => {
                lists.entry(key.clone()).or_default().push(*value);
                None
            }
            MicroOperation::Read { key } => Some(lists.get(key).cloned().unwrap_or_default()),
        });
        Answer { reads: Some(reads.collect()), ..Answer::default() }
    };
    play(&mut Dice(seed), 10, count, 3, &mut Lists::new(), act, effect)
}

#[test]
fn played_transactions_hold_whatever_the_seed() {
    for seed in 0..50 {
        holds(played(seed, 500));
    }
}

#[test]
fn ten_thousand_transactions_are_judged_in_seconds() {
    holds(played(1, 10_000));
}

#[test]
fn a_read_that_misses_its_last_element_is_caught_whatever_the_seed() {
    let mut caught = 0;
    for seed in 0..50 {
        let mut operations = played(seed, 500);
        // The longest list that a transaction read which is not its own append: its end is forgotten long after.
        let victim = operations.iter().rposition(|operation| {
            matches!(&operation.action, Action::Txn { ops } if ops.len() == 1)
                && operation
                    .answer()
                    .and_then(|answer| answer.reads.as_ref()?[0].as_ref())
                    .is_some_and(|list| list.len() > 30)
        });
        let Some(victim) = victim else { continue };
        if let Outcome::Ok(answer) = &mut operations[victim].outcome {
            let list = answer.reads.as_mut().unwrap()[0].as_mut().unwrap();
            list.truncate(list.len() - 20);
        }
        let verdict = check(&history(operations));
        assert_eq!(verdict.outcome, Judgement::Violated, "seed {seed}");
        caught += 1;
    }
    assert!(caught > 30, "only {caught} histories could be spoilt");
}
