//! Every bug that can be planted is found, and nothing is found in the same seeds without one. `cargo xtask test` builds this
//! apart, since nothing else may be built with the means to plant bugs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use xebec_store_sim::simulation::Outcome;

/// Simulations at a time, and simulated milliseconds with faults in each.
const JOBS: usize = 2;
const MILLIS: u64 = 10_000;
/// Seeds that are tried for a bug, from the one on that is known to find it. A seed replays exactly, so that the first is
/// enough; but a change of the store or of the simulator makes other runs of all seeds, and then one of the next finds it.
const SEEDS_MAX: u64 = 40;
/// Not here: `ignore-fence`, since no simulated client holds a fence.
const BUGS: [(&str, u64); 7] = [
    ("skip-fsync", 205),
    ("acknowledge-before-quorum", 202),
    ("stale-read", 202),
    ("drop-watch-event", 202),
    ("forget-lease", 202),
    ("reuse-revision", 202),
    ("vote-for-stale-logs", 202),
];

fn simulate(seed: u64, bug: Option<&str>) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xebec-store-sim"));
    command.args(["--one", "--seed", &seed.to_string(), "--steps", &MILLIS.to_string()]);
    command.args(bug.map(|bug| format!("--plant={bug}")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(last).unwrap()
}

/// Does something with each of these, a few at a time.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(worker);
        }
    });
}

#[test]
fn every_planted_bug_is_found_and_nothing_without_one() {
    let (seeds, complaints) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()));
    each(&BUGS, |(bug, first)| {
        let begun = Instant::now();
        let found = (*first..first + SEEDS_MAX).find_map(|seed| Some((seed, simulate(seed, Some(bug)).violation?)));
        let Some((seed, violation)) = found else {
            complaints.lock().unwrap().push(format!("{bug} was not found in {SEEDS_MAX} seeds from {first}"));
            return;
        };
        let promise: String = violation.chars().take(100).collect();
        println!("{bug}: seed {seed}, {:.1} s: {promise}", begun.elapsed().as_secs_f64());
        seeds.lock().unwrap().insert(seed);
    });
    let seeds: Vec<u64> = seeds.into_inner().unwrap().into_iter().collect();
    each(&seeds, |seed| {
        let outcome = simulate(*seed, None);
        if let Some(violation) = outcome.violation {
            let tail = outcome.tail.join("\n");
            complaints.lock().unwrap().push(format!("seed {seed} without a bug: {violation}\n{tail}"));
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}
