//! Locks and elections: whoever holds one has a fencing token, and writes that carry a token land in order of tokens.

use std::collections::BTreeMap;

use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// What one lock or election saw.
#[derive(Default)]
struct Holders<'history> {
    /// Acquisitions with their tokens.
    taken: Vec<(&'history Operation, u64)>,
    /// Releases that were acknowledged, with their tokens.
    given: Vec<(&'history Operation, u64)>,
    /// Writes that landed, with token and revision.
    writes: Vec<(&'history Operation, u64, u64)>,
    looked_at: usize,
}

/// Locks: tokens rise with every acquisition; guarded writes land in order of tokens, and none after another holder's
/// acquisition was acknowledged or its own release was.
pub fn locks(history: &History) -> Verdict {
    judge_all(history, "lock", |action| match action {
        Action::Acquire { lock } => Some((lock, Part::Take)),
        Action::Release { lock, token } => Some((lock, Part::Give(*token))),
        Action::Guarded { lock, token, .. } => Some((lock, Part::Write(*token))),
        _ => None,
    })
}

/// Elections: as [`locks`]; never do two leaders' writes land interleaved.
pub fn elections(history: &History) -> Verdict {
    judge_all(history, "election", |action| match action {
        Action::Campaign { election } => Some((election, Part::Take)),
        Action::Resign { election, token } => Some((election, Part::Give(*token))),
        Action::Proclaim { election, token, .. } => Some((election, Part::Write(*token))),
        _ => None,
    })
}

enum Part {
    Take,
    Give(u64),
    Write(u64),
}

fn judge_all(history: &History, checker: &str, part: impl Fn(&Action) -> Option<(&String, Part)>) -> Verdict {
    let mut all: BTreeMap<&str, Holders<'_>> = BTreeMap::new();
    for operation in &history.operations {
        let Some((name, part)) = part(&operation.action) else { continue };
        let holders = all.entry(name).or_default();
        holders.looked_at += 1;
        let Some(answer) = operation.answer() else { continue };
        match part {
            Part::Take => holders.taken.extend(answer.token.map(|token| (operation, token))),
            Part::Give(token) => holders.given.push((operation, token)),
            Part::Write(token) => holders.writes.extend(answer.revision.map(|at| (operation, token, at))),
        }
    }
    let mut violations = Vec::new();
    for (name, holders) in &mut all {
        holders.taken.sort_by_key(|(operation, _)| operation.effective_until());
        holders.writes.sort_by_key(|(_, _, revision)| *revision);
        violations.extend(token_order(name, &holders.taken));
        violations.extend(write_order(name, &holders.writes));
        violations.extend(late_writes(name, holders));
    }
    let looked_at = all.values().map(|holders| holders.looked_at).sum();
    let taken: usize = all.values().map(|holders| holders.taken.len()).sum();
    let writes: usize = all.values().map(|holders| holders.writes.len()).sum();
    Verdict::new(checker, looked_at, format!("{taken} holders, {writes} writes under a token"), violations)
}

/// `taken` in order of completion: each began after some others had ended, and must have a higher token.
fn token_order(name: &str, taken: &[(&Operation, u64)]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut tokens: BTreeMap<u64, &Operation> = BTreeMap::new();
    let mut highest: Vec<(u64, &Operation)> = Vec::with_capacity(taken.len());
    for (operation, token) in taken {
        if let Some(other) = tokens.insert(*token, operation) {
            found.push(Violation::of("token-twice", format!("{name} gave token {token} to two"), &[other, operation]));
        }
        let before = taken[..highest.len()].partition_point(|(other, _)| other.effective_until() < operation.invoked);
        if let Some((high, other)) = before.checked_sub(1).map(|last| highest[last]).filter(|(high, _)| high > token) {
            let explanation = format!("{name} gave token {token} after it had given {high}");
            found.push(Violation::of("token-falls", explanation, &[other, operation]));
        }
        let last = highest.last().copied().unwrap_or((*token, operation));
        highest.push(if last.0 > *token { last } else { (*token, operation) });
    }
    found
}

/// `writes` in order of revision.
fn write_order(name: &str, writes: &[(&Operation, u64, u64)]) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(mut highest) = writes.first() else { return found };
    for write in writes {
        if write.1 < highest.1 {
            let explanation = format!(
                "a write under token {} of {name} landed at revision {}, after one under token {} at {}",
                write.1, write.2, highest.1, highest.2
            );
            found.push(Violation::of("two-holders", explanation, &[highest.0, write.0]));
        } else {
            highest = write;
        }
    }
    found
}

fn late_writes(name: &str, holders: &Holders<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    // Highest token among the acquisitions that had ended, in order of their end.
    let mut highest: Vec<(u64, u64, &Operation)> = Vec::with_capacity(holders.taken.len());
    for (operation, token) in &holders.taken {
        let last = highest.last().map_or((*token, *operation), |(_, token, operation)| (*token, *operation));
        let (token, by) = if last.0 > *token { last } else { (*token, *operation) };
        highest.push((operation.effective_until(), token, by));
    }
    for (write, token, _) in &holders.writes {
        let ended = highest.partition_point(|(end, ..)| *end < write.invoked);
        if let Some((_, newer, by)) = ended.checked_sub(1).map(|last| highest[last]).filter(|(_, high, _)| high > token)
        {
            let explanation = format!("a write under token {token} of {name} landed though {newer} held it");
            found.push(Violation::of("deposed-writer", explanation, &[by, write]));
        }
        let given = holders.given.iter().find(|(given, of)| of == token && given.effective_until() < write.invoked);
        if let Some((given, _)) = given {
            let explanation = format!("a write under token {token} of {name} landed though it was given back");
            found.push(Violation::of("write-after-release", explanation, &[given, write]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::{failed, ok, unknown},
    };

    fn acquire(process: u32, begin: u64, end: u64, token: u64) -> Operation {
        let answer = Answer { token: Some(token), ..Answer::default() };
        ok(process, begin, end, Action::Acquire { lock: "l".into() }, answer)
    }

    fn action(token: u64) -> Action {
        Action::Guarded { lock: "l".into(), token, value: 1 }
    }

    fn write(process: u32, begin: u64, end: u64, token: u64, revision: u64) -> Operation {
        let answer = Answer { revision: Some(revision), ..Answer::default() };
        ok(process, begin, end, action(token), answer)
    }

    fn release(process: u32, begin: u64, end: u64, token: u64) -> Operation {
        ok(process, begin, end, Action::Release { lock: "l".into(), token }, Answer::default())
    }

    #[test]
    fn one_holder_after_the_other() {
        let first = vec![acquire(0, 0, 1, 10), write(0, 2, 3, 10, 11), release(0, 4, 5, 10)];
        let second = vec![acquire(1, 0, 7, 12), write(1, 8, 9, 12, 13)];
        holds(locks, [first, second].concat());
    }

    #[test]
    fn a_deposed_holder_that_is_refused_is_fine() {
        holds(locks, vec![acquire(0, 0, 1, 10), acquire(1, 2, 3, 12), failed(0, 4, 5, action(10))]);
        holds(locks, vec![acquire(0, 0, 1, 10), acquire(1, 2, 3, 12), unknown(0, 4, 5, action(10))]);
    }

    #[test]
    fn a_deposed_holders_write_that_lands_is_caught() {
        let writes = vec![acquire(0, 0, 1, 10), acquire(1, 2, 3, 12), write(0, 4, 5, 10, 13)];
        anomalies(locks, writes, &["deposed-writer"]);
    }

    #[test]
    fn two_holders_whose_writes_interleave_are_caught() {
        // Both acquisitions are still unanswered when the writes land, so only the revisions tell.
        let writes = vec![acquire(0, 0, 99, 10), acquire(1, 0, 99, 12), write(1, 4, 5, 12, 13), write(0, 4, 5, 10, 14)];
        anomalies(locks, writes, &["two-holders"]);
    }

    #[test]
    fn tokens_rise() {
        anomalies(locks, vec![acquire(0, 0, 1, 10), acquire(1, 2, 3, 9)], &["token-falls"]);
        anomalies(locks, vec![acquire(0, 0, 9, 10), acquire(1, 0, 9, 10)], &["token-twice"]);
    }

    #[test]
    fn a_write_after_the_release_is_caught() {
        let writes = vec![acquire(0, 0, 1, 10), release(0, 2, 3, 10), write(0, 4, 5, 10, 12)];
        anomalies(locks, writes, &["write-after-release"]);
    }

    #[test]
    fn elections_are_judged_alike() {
        let campaign = |process, begin, end, token| {
            let answer = Answer { token: Some(token), ..Answer::default() };
            ok(process, begin, end, Action::Campaign { election: "e".into() }, answer)
        };
        let proclaim = |process, begin, end, token, revision| {
            let answer = Answer { revision: Some(revision), ..Answer::default() };
            ok(process, begin, end, Action::Proclaim { election: "e".into(), token, value: 1 }, answer)
        };
        let both = vec![campaign(0, 0, 1, 5), campaign(1, 2, 3, 7)];
        holds(elections, [both.clone(), vec![proclaim(1, 4, 5, 7, 8)]].concat());
        anomalies(elections, [both, vec![proclaim(0, 4, 5, 5, 8)]].concat(), &["deposed-writer"]);
    }
}
