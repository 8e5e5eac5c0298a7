//! The budget of every test run: seeds with all faults, and exact replay.
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

/// Every message, every answer, every fault and every state of every member are in the hash. Seeds 2, 15 and 21 flip
/// bits of tables: what RocksDB's threads had made by then must be the same. (Seed 23 has two outcomes still.)
#[test]
fn a_seed_replays_exactly() {
    for seed in [2, 15, 21] {
        let seed = seed.to_string();
        let output = simulator(&["--seeds", "1", "--seed", &seed, "--twice"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let (one, two) = (one(1, 4_000), one(2, 4_000));
    assert!(one.operations > 50, "{one:?}");
    assert_ne!(one.trace_hash, two.trace_hash);
}

#[test]
fn a_budget_of_seeds_breaks_no_promise() {
    let output = simulator(&["--seeds", "24", "--seed", "1", "--seconds", "60"]);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// A member that was let in and removed before the first entry came knew nobody to ask whether it still was a member.
const NEVER_TOLD: &str = "a removed member that never heard of the others";

/// What goes with a membership was written after the entries that a restarted member replayed together with it.
const OTHER_PORTIONS: &str = "the same entries in other portions came to another state";

/// Seeds that once found something, each named for it. A change of the simulator turns seeds into other runs: what earlier
/// simulators found has tests beside the code that was wrong.
#[test]
fn what_was_found_stays_fixed() {
    let found = [(NEVER_TOLD, 14), (OTHER_PORTIONS, 58)];
    for (what, seed) in found {
        let outcome = one(seed, 20_000);
        assert_eq!(outcome.violation, None, "{what}: seed {seed}\n{}", outcome.tail.join("\n"));
    }
}
