//! From orders to findings: starts workers, watches them, and makes small what they break on.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    findings,
    input::Input,
    worker::{FOUND_STATUS, Orders, State},
};

/// How long one input may take, unless the orders say otherwise.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
/// The same while an input is made smaller.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(5);
/// Known findings that are met again before a target has had enough: they hide what else there is.
const REPEATS_MAX: usize = 2;
/// How long an input is made smaller.
const MINIMISE_TIME_MAX: Duration = Duration::from_secs(60);
/// Different findings after which a target has had enough.
const FINDINGS_MAX: usize = 5;
/// How often a worker is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// An input that breaks something.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What happens.
    pub reason: String,
    /// The input, as small as it could be made.
    pub input: Input,
    /// Whether the input alone does it; if not, it takes what the worker ran before.
    pub is_alone: bool,
    /// Where it was written.
    pub path: PathBuf,
}

/// How a worker ended.
enum Ending {
    Done(String),
    Broke { reason: String, input: Input, run: u64 },
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// What workers that came to their end said.
    pub summary: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Fuzzes one target for `time`. What is found is made small and written to `out`.
///
/// # Errors
/// If workers cannot be started.
pub fn fuzz(target: &str, orders: &Orders, out: &Path) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::default();
    let (mut seed, mut repeats) = (orders.seed, 0);
    while report.findings.len() < FINDINGS_MAX {
        let time = orders.time.saturating_sub(begun.elapsed());
        let arguments = [
            "worker".to_owned(),
            format!("--target={target}"),
            format!("--seed={seed}"),
            format!("--millis={}", time.as_millis()),
            format!("--runs={}", orders.runs_max),
        ];
        let corpus = orders.corpus.as_ref().map(|dir| format!("--corpus={}", dir.display()));
        match watch(arguments.into_iter().chain(corpus), &orders.state, orders.input_time_max)? {
            Ending::Done(summary) => {
                report.summary = summary;
                break;
            }
            Ending::Broke { reason, input, run } => {
                let is_new = report.findings.iter().all(|known| class(&known.reason) != class(&reason));
                if is_new {
                    report.findings.push(keep(target, orders, reason, &input, (seed, run), out)?);
                }
                repeats += usize::from(!is_new);
                if begun.elapsed() >= orders.time || repeats >= REPEATS_MAX {
                    break;
                }
                seed = seed.wrapping_add(0x1000_0000);
            }
        }
    }
    Ok(report)
}

/// Runs one input in a process of its own; the reason if it breaks something.
///
/// # Errors
/// If the process cannot be started.
pub fn replay(target: &str, input: &Input, state: &Path, time_max: Duration) -> Result<Option<String>> {
    let file = state.with_extension("replay");
    fs::write(&file, findings::to_text(input, "")).context("cannot write an input")?;
    let arguments = ["worker".to_owned(), format!("--target={target}"), format!("--only={}", file.display())];
    match watch(arguments.into_iter(), state, time_max)? {
        Ending::Done(_) => Ok(None),
        Ending::Broke { reason, .. } => Ok(Some(reason)),
    }
}

/// Starts a worker and waits for its end.
fn watch(arguments: impl Iterator<Item = String>, state_path: &Path, time_max: Duration) -> Result<Ending> {
    for extension in ["reason", "summary"] {
        let left = state_path.with_extension(extension);
        if left.exists() {
            fs::remove_file(&left).with_context(|| left.display().to_string())?;
        }
    }
    let state = State::at(state_path);
    fs::write(state_path, []).with_context(|| state_path.display().to_string())?;
    let mut command = Command::new(env::current_exe().context("this program's path")?);
    command.args(arguments).arg(format!("--state={}", state_path.display()));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let (mut run, mut since) = (0, Instant::now());
    let reason = loop {
        if let Some(status) = child.try_wait()? {
            break match (status.code(), status.signal()) {
                (Some(0), _) => return Ok(Ending::Done(state.summary().unwrap_or_default())),
                (Some(FOUND_STATUS), _) => state.reason().unwrap_or_default(),
                (_, Some(6)) => "abort (signal 6): the stack overflowed, or memory was refused".to_owned(),
                (_, Some(signal)) => format!("killed by signal {signal}"),
                (code, None) => anyhow::bail!("a worker cannot work: exit status {code:?}"),
            };
        }
        if since.elapsed() > time_max {
            let now = state.progress().map_or(0, |progress| progress.run);
            if now == run {
                child.kill()?;
                child.wait()?;
                break format!("hangs: an input takes longer than {} s", time_max.as_secs());
            }
            (run, since) = (now, Instant::now());
        }
        thread::sleep(LOOK_INTERVAL);
    };
    let progress = state.progress().context("a worker died before it began")?;
    Ok(Ending::Broke { reason, input: progress.input, run: progress.run })
}

/// What tells findings apart: without numbers that differ from input to input.
fn class(reason: &str) -> String {
    match reason.strip_prefix("panic at ") {
        // The place, with its line.
        Some(place) => place.split(": ").next().unwrap_or_default().to_owned(),
        None => reason.split([' ', ':']).next().unwrap_or_default().to_owned(),
    }
}

fn keep(
    target: &str,
    orders: &Orders,
    reason: String,
    input: &Input,
    (seed, run): (u64, u64),
    out: &Path,
) -> Result<Finding> {
    let breaks = |candidate: &Input| -> Result<bool> {
        let time_max = orders.input_time_max.min(REPLAY_TIME_MAX);
        let found = replay(target, candidate, &orders.state, time_max)?;
        Ok(found.is_some_and(|found| class(&found) == class(&reason)))
    };
    let is_alone = breaks(input)?;
    let input = if is_alone { minimise(input, &breaks)? } else { input.clone() };
    let how = match is_alone {
        true => String::new(),
        false => format!("\nNot alone: after what seed {seed} ran before, as input {run}."),
    };
    let path = findings::write(out, &input, &format!("{target}: {reason}{how}"))?;
    Ok(Finding { reason, input, is_alone, path })
}

/// Takes away what is not needed: parts, then runs of bytes, ever shorter.
fn minimise(input: &Input, breaks: &dyn Fn(&Input) -> Result<bool>) -> Result<Input> {
    let begun = Instant::now();
    let mut best = input.clone();
    let mut place = 0;
    while place < best.parts.len() && best.parts.len() > 1 && begun.elapsed() < MINIMISE_TIME_MAX {
        let mut smaller = best.clone();
        smaller.parts.remove(place);
        if breaks(&smaller)? {
            best = smaller;
        } else {
            place += 1;
        }
    }
    for part in 0..best.parts.len() {
        let mut length = best.parts[part].bytes.len().div_ceil(2);
        while length > 0 {
            let mut at = 0;
            while at < best.parts[part].bytes.len() {
                if begun.elapsed() >= MINIMISE_TIME_MAX {
                    return Ok(best);
                }
                let mut smaller = best.clone();
                let end = (at + length).min(smaller.parts[part].bytes.len());
                smaller.parts[part].bytes.drain(at..end);
                if breaks(&smaller)? {
                    best = smaller;
                } else {
                    at += length;
                }
            }
            length /= 2;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Part;

    #[test]
    fn only_what_is_needed_stays() {
        let input = Input { parts: vec![Part::new(1, *b"noise"), Part::new(2, *b"some (bad) text"), Part::new(3, [])] };
        let breaks =
            |input: &Input| Ok(input.parts.iter().any(|part| part.bytes.windows(3).any(|window| window == b"bad")));
        assert_eq!(minimise(&input, &breaks).unwrap(), Input::one(2, *b"bad"));
    }

    #[test]
    fn findings_are_told_apart_by_place_not_by_numbers() {
        assert_eq!(class("panic at a.rs:7:1: index 9"), class("panic at a.rs:7:1: index 10"));
        assert_ne!(class("panic at a.rs:7:1: x"), class("panic at a.rs:8:1: x"));
        assert_eq!(class("allocation of 97 MiB"), class("allocation of 4000 MiB"));
    }
}
