//! Sets: what was added stays, and nothing else is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    history::{Action, History, Operation},
    verdict::{Timeline, Verdict, Violation},
};

#[derive(Default)]
struct Set<'history> {
    added: HashMap<i64, &'history Operation>,
    reads: Vec<(&'history Operation, &'history [i64])>,
}

/// Whether every read of a set shows all that was acknowledged before it began and all that an earlier read showed, and
/// nothing that was not added, failed, or was only asked for after it ended.
pub fn check(history: &History) -> Verdict {
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for operation in &history.operations {
        match &operation.action {
            Action::Add { set, element } => {
                sets.entry(set).or_default().added.insert(*element, operation);
            }
            Action::ReadSet { set } => {
                let elements = operation.answer().and_then(|answer| answer.elements.as_deref());
                sets.entry(set).or_default().reads.extend(elements.map(|elements| (operation, elements)));
            }
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for (name, set) in &mut sets {
        violations.extend(judge(name, set));
    }
    let added: usize = sets.values().map(|set| set.added.len()).sum();
    let reads: usize = sets.values().map(|set| set.reads.len()).sum();
    Verdict::new("set", added + reads, format!("{added} elements, {reads} reads"), violations)
}

fn judge(name: &str, set: &mut Set<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    // The earliest read that showed an element, by when it ended.
    let mut shown: HashMap<i64, &Operation> = HashMap::new();
    set.reads.sort_by_key(|(read, _)| read.effective_until());
    for (read, elements) in &set.reads {
        let there: HashSet<i64> = elements.iter().copied().collect();
        let mut lost: Vec<_> = set
            .added
            .iter()
            .filter(|(element, add)| !there.contains(*element) && is_due(add, shown.get(*element).copied(), read))
            .collect();
        lost.sort_by_key(|(_, add)| add.invoked);
        if let Some((element, add)) = lost.first() {
            let explanation = format!("{element} of {name} is missing, and {} more with it", lost.len() - 1);
            let seen = shown.get(*element).copied();
            found.push(violation("lost-element", explanation, [Some(**add), seen, Some(*read)]));
        }
        for element in &there {
            let add = set.added.get(element).copied();
            if add.is_none_or(|add| add.failed() || add.invoked > read.effective_until()) {
                let explanation = format!("{element} of {name} was never added, or not yet");
                found.push(violation("invented-element", explanation, [add, None, Some(*read)]));
            }
            shown.entry(*element).or_insert(read);
        }
        if there.len() < elements.len() {
            let explanation = format!("{name} shows an element twice");
            found.push(violation("duplicate-element", explanation, [None, None, Some(*read)]));
        }
    }
    found
}

/// Whether a read must show what `add` added.
fn is_due(add: &Operation, shown: Option<&Operation>, read: &Operation) -> bool {
    add.effective_until() < read.invoked || shown.is_some_and(|shown| shown.effective_until() < read.invoked)
}

fn violation(anomaly: &str, explanation: String, operations: [Option<&Operation>; 3]) -> Violation {
    let last = operations.len() - 1;
    let bars = operations.iter().enumerate().filter_map(|(at, operation)| Some((*operation)?.bar(at == last)));
    Violation { anomaly: anomaly.to_owned(), explanation, timeline: Timeline::new(bars.collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::{failed, ok, unknown},
    };

    fn action(element: i64) -> Action {
        Action::Add { set: "s".into(), element }
    }

    fn add(begin: u64, end: u64, element: i64) -> Operation {
        ok(0, begin, end, action(element), Answer::default())
    }

    fn read(begin: u64, end: u64, elements: &[i64]) -> Operation {
        let answer = Answer { elements: Some(elements.to_vec()), ..Answer::default() };
        ok(1, begin, end, Action::ReadSet { set: "s".into() }, answer)
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        holds(check, vec![add(0, 1, 1), add(2, 8, 2), read(3, 4, &[1]), read(9, 10, &[2, 1])]);
        anomalies(check, vec![add(0, 1, 1), add(2, 3, 2), read(4, 5, &[2])], &["lost-element"]);
    }

    #[test]
    fn what_was_seen_stays() {
        let lost = || unknown(0, 0, 1, action(1));
        holds(check, vec![lost(), read(2, 3, &[]), read(4, 5, &[1]), read(6, 7, &[1])]);
        anomalies(check, vec![lost(), read(2, 3, &[1]), read(4, 5, &[])], &["lost-element"]);
    }

    #[test]
    fn nothing_is_invented_or_doubled() {
        anomalies(check, vec![add(0, 1, 1), read(2, 3, &[1, 7])], &["invented-element"]);
        anomalies(check, vec![failed(0, 0, 1, action(1)), read(2, 3, &[1])], &["invented-element"]);
        anomalies(check, vec![read(0, 1, &[1]), add(2, 3, 1)], &["invented-element"]);
        anomalies(check, vec![add(0, 1, 1), read(2, 3, &[1, 1])], &["duplicate-element"]);
    }
}
