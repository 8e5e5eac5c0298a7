//! The budget of every test run: seeds with all faults, exact replay, and planted bugs that must be found.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

use xebec_store_sim::simulation::Outcome;

fn simulator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xebec-store-sim")).args(arguments).output().unwrap()
}

fn one(seed: u64, steps: u64) -> Outcome {
    let (seed, steps) = (seed.to_string(), steps.to_string());
    let output = simulator(&["--one", "--seed", &seed, "--steps", &steps]);
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(last).unwrap()
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [7, 12, 15] {
        let (first, second) = (one(seed, 8_000), one(seed, 8_000));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert!(first.operations > 100, "{first:?}");
        assert_eq!(first.operations, second.operations);
    }
    assert_ne!(one(1, 4_000).trace_hash, one(2, 4_000).trace_hash);
}

#[test]
fn a_budget_of_seeds_breaks_no_promise() {
    let output = simulator(&["--seeds", "24", "--seed", "1", "--seconds", "60"]);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A leader that had not opened its lease table yet granted a lease as of time 0, and it was revoked at once.
const GRANTED_EARLY: &str = "a grant without a time";

/// Seeds that once found something, each named for it.
#[test]
fn what_was_found_stays_fixed() {
    let found =
        [("a leader with a slow disk lost power, and its keyspace was ahead of its log", 7), (GRANTED_EARLY, 34)];
    for (what, seed) in found {
        let outcome = one(seed, 20_000);
        assert_eq!(outcome.violation, None, "{what}: seed {seed}\n{}", outcome.tail.join("\n"));
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_found() {
    for bug in ["skip-fsync", "acknowledge-before-quorum", "stale-read", "drop-watch-event", "forget-lease"] {
        let output = simulator(&["--seeds", "60", "--plant", bug]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("violated: "), "{bug} was not found in 60 seeds:\n{text}");
    }
}
