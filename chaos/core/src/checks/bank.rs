//! A bank: money is moved, never made or lost.

use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether every read of all accounts shows the same accounts and total as the first, and no account below zero.
pub fn check(history: &History) -> Verdict {
    let mut violations = Vec::new();
    let (mut transfers, mut reads) = (0, 0);
    let mut first: Option<(&Operation, i64, usize)> = None;
    for operation in &history.operations {
        match &operation.action {
            Action::Transfer { .. } => transfers += 1,
            Action::ReadAccounts => {
                let Some(balances) = operation.answer().and_then(|answer| answer.balances.as_ref()) else { continue };
                reads += 1;
                let total: i64 = balances.values().sum();
                let (begin, expected, accounts) = *first.get_or_insert((operation, total, balances.len()));
                if total != expected || balances.len() != accounts {
                    let explanation =
                        format!("{accounts} accounts held {expected} together, now {} hold {total}", balances.len());
                    violations.push(Violation::of("total-changed", explanation, &[begin, operation]));
                }
                if let Some((name, balance)) = balances.iter().find(|(_, balance)| **balance < 0) {
                    let explanation = format!("account {name} holds {balance}");
                    violations.push(Violation::of("negative-balance", explanation, &[operation]));
                }
            }
            _ => {}
        }
    }
    Verdict::new("bank", transfers + reads, format!("{transfers} transfers, {reads} reads"), violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::ok,
    };

    fn read(begin: u64, balances: &[(&str, i64)]) -> Operation {
        let balances = balances.iter().map(|(name, balance)| ((*name).to_owned(), *balance)).collect();
        ok(1, begin, begin + 1, Action::ReadAccounts, Answer { balances: Some(balances), ..Answer::default() })
    }

    #[test]
    fn the_total_stays() {
        holds(check, vec![read(0, &[("a", 10), ("b", 10)]), read(2, &[("a", 0), ("b", 20)])]);
        anomalies(check, vec![read(0, &[("a", 10), ("b", 10)]), read(2, &[("a", 9), ("b", 10)])], &["total-changed"]);
        anomalies(check, vec![read(0, &[("a", 10), ("b", 0)]), read(2, &[("a", 10)])], &["total-changed"]);
    }

    #[test]
    fn nobody_owes() {
        anomalies(check, vec![read(0, &[("a", -1), ("b", 21)])], &["negative-balance"]);
    }
}
