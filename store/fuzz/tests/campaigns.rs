//! Campaigns as processes: bugs are found and replay, what was found once stays fixed, and a short look at everything.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

fn fuzz(arguments: &[&str], planted: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xebec-store-fuzz"));
    command.args(arguments).env_remove("XEBEC_FUZZ_PLANT");
    command.envs(planted.map(|planted| ("XEBEC_FUZZ_PLANT", planted)));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn inputs(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect()
}

/// Fuzzes the planted decoder; answers with the text of the input that was found.
fn find(planted: &str, expected: &str) -> String {
    let out = TempDir::new().unwrap();
    let dir = out.path().display().to_string();
    let arguments = ["--target=planted", "--seconds=60", "--runs=200000", "--input-seconds=2", "--out", dir.as_str()];
    let (is_clean, said) = fuzz(&arguments, Some(planted));
    assert!(!is_clean && said.contains(expected), "{planted}: {said}");
    let found = inputs(out.path());
    let (is_clean, said) = fuzz(&["replay", "--target=planted", &found[0]], Some(planted));
    assert!(!is_clean && said.contains("BREAKS"), "{planted}: {said}");
    fs::read_to_string(&found[0]).unwrap()
}

#[test]
fn a_planted_panic_is_found_made_small_and_replayed() {
    let text = find("panic", "panic at store/fuzz/src/targets/planted.rs");
    let part = text.lines().last().unwrap();
    assert!(part.len() <= 2 + 2 * 4, "not minimal: {text}");
}

#[test]
fn a_planted_allocation_is_found() {
    find("allocation", "allocation of");
}

#[test]
fn a_planted_stack_overflow_is_found() {
    find("stack", "abort (signal 6)");
}

#[test]
fn a_planted_endless_loop_is_found() {
    let text = find("hang", "hangs");
    assert!(text.contains("\\x00"), "{text}");
}

#[test]
fn what_was_found_once_stays_fixed() {
    let (is_clean, said) = fuzz(&["replay"], None);
    assert!(is_clean, "{said}");
}

#[test]
fn a_short_campaign_finds_nothing() {
    let out = TempDir::new().unwrap();
    let dir = out.path().display().to_string();
    let (is_clean, said) = fuzz(&["--seconds=2", "--seed=2026", "--out", dir.as_str()], None);
    let kept: Vec<String> = inputs(out.path()).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(is_clean, "{said}\n{}", kept.join("\n"));
}

#[test]
fn the_same_seed_and_number_of_inputs_do_the_same() {
    let run = |seed: &str| fuzz(&["--target=kv,config", "--runs=2000", seed], None).1;
    assert_eq!(run("--seed=5"), run("--seed=5"));
    assert_ne!(run("--seed=5"), run("--seed=6"));
}
