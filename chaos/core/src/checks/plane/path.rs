//! The data path: Services answer whatever happens to masters.

use super::pods::hurt;
use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether every request to a Service was answered, unless a node had been hurt before: its backends may be gone.
pub fn path(history: &History) -> Verdict {
    let asked = |operation: &&Operation| matches!(operation.action, Action::Probe { .. });
    let probes: Vec<&Operation> = history.operations.iter().filter(asked).collect();
    // What the run's end cut off was not refused.
    let silent = probes.iter().filter(|probe| probe.answer().is_none() && probe.completed.is_some());
    let nodes: Vec<String> = (1..=9).map(|number| format!("n{number}")).collect();
    let excused = |probe: &Operation| nodes.iter().any(|node| hurt(history, node, probe.invoked));
    let silent = silent.filter(|probe| !excused(probe));
    let explain = || "a Service did not answer, though nothing was done to any node".to_owned();
    let violations = silent.map(|probe| Violation::of("no-answer", explain(), &[probe])).collect();
    Verdict::new("data-path", probes.len(), format!("{} requests to Services", probes.len()), violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checks::testing::{anomalies, holds},
        history::Answer,
        made::{ok, unknown},
    };

    #[test]
    fn services_answer() {
        let probe = || Action::Probe { service: "d/web".into() };
        holds(path, vec![ok(0, 0, 1, probe(), Answer::default())]);
        anomalies(path, vec![unknown(0, 0, 1, probe())], &["no-answer"]);
    }
}
