//! What was healed works again.

use crate::{
    history::{FaultPhase, History, Operation},
    verdict::{Verdict, Violation},
};

/// Nanoseconds within which somebody must be answered after the last thing that was broken is healed. Elections take one or two
/// seconds on a busy machine, starts of processes a few more.
pub const RECOVERY_MAX: u64 = 10_000_000_000;
/// Requests without an answer that are shown.
const SHOWN_MAX: usize = 3;

/// Whether clients were answered again within [`RECOVERY_MAX`] after each fault that was followed by so long a quiet. A system
/// that refuses to serve loses nothing and contradicts nothing, so that no other check sees it.
pub fn check(history: &History) -> Verdict {
    let times = |operation: &Operation| operation.completed.unwrap_or(operation.invoked);
    let end = history.operations.iter().map(times).max().unwrap_or(0);
    let mut looked_at = 0;
    let mut violations = Vec::new();
    for (index, fault) in history.faults.iter().enumerate().filter(|(_, fault)| fault.phase == FaultPhase::End) {
        let due = fault.time.saturating_add(RECOVERY_MAX);
        let quiet = history.faults.get(index + 1).map_or(end, |next| next.time);
        if quiet < due {
            continue;
        }
        looked_at += 1;
        let within = |time: u64| fault.time < time && time <= due;
        let is_answered =
            |operation: &Operation| operation.answer().is_some() && operation.completed.is_some_and(within);
        let asked: Vec<_> = history.operations.iter().filter(|operation| within(operation.invoked)).collect();
        if asked.is_empty() || history.operations.iter().any(is_answered) {
            continue;
        }
        let seconds = RECOVERY_MAX / 1_000_000_000;
        let explanation = format!(
            "{} requests were made in the {seconds} s after {} ({}) was healed, and none was answered",
            asked.len(),
            fault.name,
            fault.detail
        );
        let shown = &asked[..asked.len().min(SHOWN_MAX)];
        violations.push(Violation::of("not-recovered", explanation, shown));
    }
    Verdict::new("recovery", looked_at, format!("{looked_at} faults with time to recover from"), violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Action, Answer, Fault},
        made::{history, ok, unknown},
        verdict::Judgement,
    };

    const SECOND: u64 = 1_000_000_000;

    fn read() -> Action {
        Action::Read { key: "k".into() }
    }

    fn judged(operations: Vec<Operation>, faults: &[(FaultPhase, u64)]) -> Judgement {
        let mut history = history(operations);
        let fault = |(phase, seconds): &(FaultPhase, u64)| {
            let (name, detail) = ("power-loss-all".to_owned(), "m1 m2 m3".to_owned());
            Fault { time: seconds * SECOND, id: 1, name, phase: *phase, detail }
        };
        history.faults = faults.iter().map(fault).collect();
        check(&history).outcome
    }

    #[test]
    fn whoever_is_healed_must_answer() {
        let faults = [(FaultPhase::Begin, 4), (FaultPhase::End, 8)];
        let in_vain = |second: u64| unknown(0, second * SECOND, (second + 1) * SECOND, read());
        let answered = ok(1, 16 * SECOND, 17 * SECOND, read(), Answer::default());
        assert_eq!(judged(vec![in_vain(9), in_vain(20)], &faults), Judgement::Violated);
        assert_eq!(judged(vec![in_vain(9), answered.clone(), in_vain(20)], &faults), Judgement::Holds);
        let late = ok(1, 19 * SECOND, 20 * SECOND, read(), Answer::default());
        assert_eq!(judged(vec![in_vain(9), late], &faults), Judgement::Violated);
    }

    #[test]
    fn short_quiets_and_silent_clients_show_nothing() {
        let in_vain = |second: u64| unknown(0, second * SECOND, (second + 1) * SECOND, read());
        let faults = [(FaultPhase::Begin, 4), (FaultPhase::End, 8)];
        assert_eq!(judged(vec![in_vain(9), in_vain(12)], &faults), Judgement::Empty);
        assert_eq!(judged(vec![in_vain(30)], &faults), Judgement::Holds);
        let again = [(FaultPhase::Begin, 4), (FaultPhase::End, 8), (FaultPhase::Begin, 12)];
        assert_eq!(judged(vec![in_vain(9), in_vain(30)], &again), Judgement::Empty);
    }
}
