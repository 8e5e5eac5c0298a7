//! Pods: bound once, and not restarted by deaths that are none of their node's.

use std::collections::{BTreeMap, HashMap};

use super::{
    observed::{Version, versions},
    violation,
};
use crate::{
    history::{Action, FaultPhase, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether every pod was bound at most once and stayed there, and no container of a node that nobody hurt restarted.
pub fn pods(history: &History) -> Verdict {
    let mut violations = Vec::new();
    let mut bindings: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| operation.answer().is_some()) {
        if let Action::Bind { pod, .. } = &operation.action {
            bindings.entry(pod).or_default().push(operation);
        }
    }
    for (pod, bindings) in bindings.iter().filter(|(_, bindings)| bindings.len() > 1) {
        let explanation = format!("pod {pod} was bound {} times", bindings.len());
        violations.push(Violation::of("bound-twice", explanation, bindings));
    }
    let versions = versions(history, "pods/");
    let mut lives: HashMap<(&str, &str), Vec<&Version<'_>>> = HashMap::new();
    for version in &versions {
        if let Some(facts) = &version.facts {
            lives.entry((version.object, &facts.uid)).or_default().push(version);
        }
    }
    for ((object, uid), life) in &lives {
        violations.extend(moved(object, life));
        violations.extend(restarted(history, object, life));
        let name = format!("{}/{uid}", object.trim_start_matches("pods/"));
        let bound = bindings.get(name.as_str()).and_then(|bindings| bindings.first());
        violations.extend(bound.and_then(|binding| elsewhere(binding, life)));
    }
    let bound = lives.values().filter(|life| life.iter().any(|version| !node(version).is_empty())).count();
    let summary = format!("{} pods seen, {bound} bound, {} bound by clients", lives.len(), bindings.len());
    Verdict::new("pods", lives.len() + bindings.len(), summary, violations)
}

fn node<'a>(version: &'a Version<'_>) -> &'a str {
    version.facts.as_ref().map_or("", |facts| &facts.node)
}

fn moved(object: &str, life: &[&Version<'_>]) -> Option<Violation> {
    let pair = life.windows(2).find(|pair| !node(pair[0]).is_empty() && node(pair[0]) != node(pair[1]))?;
    let explanation = format!("{object} was on {:?} and then on {:?}", node(pair[0]), node(pair[1]));
    let seen = pair.iter().map(|version| version.bar(node(version))).collect();
    Some(violation("bound-twice", explanation, &[], seen))
}

fn elsewhere(binding: &Operation, life: &[&Version<'_>]) -> Option<Violation> {
    let Action::Bind { pod, node: wanted } = &binding.action else { return None };
    let there = life.iter().find(|version| !node(version).is_empty() && node(version) != wanted)?;
    let explanation = format!("pod {pod} was bound to {wanted}, and is on {}", node(there));
    Some(violation("bound-elsewhere", explanation, &[binding], vec![there.bar(node(there))]))
}

fn restarted(history: &History, object: &str, life: &[&Version<'_>]) -> Option<Violation> {
    let restarts = |version: &Version<'_>| version.facts.as_ref().map_or(0, |facts| facts.restarts);
    let pair = life.windows(2).find(|pair| restarts(pair[1]) > restarts(pair[0]))?;
    if hurt(history, node(pair[1]), pair[1].time()) {
        return None;
    }
    let explanation = format!("a container of {object} restarted, though nothing was done to its node");
    let seen = pair.iter().map(|version| version.bar(&format!("{} restarts", restarts(version)))).collect();
    Some(violation("restarted", explanation, &[], seen))
}

/// Whether a fault named the host of this node (`n2`, or `n2-0` for one that a host only plays) before this moment.
pub(super) fn hurt(history: &History, node: &str, time: u64) -> bool {
    let host = node.split('-').next().unwrap_or(node);
    let faults = history.faults.iter().filter(|fault| fault.phase == FaultPhase::Begin && fault.time <= time);
    let names = |detail: &str| {
        detail.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == host && !host.is_empty())
    };
    faults.into_iter().any(|fault| names(&fault.detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Answer, Facts, Fault, KeyEvent, WatchMessage, WatchStep},
        made::{history, ok},
    };

    fn told(revision: u64, node: &str, restarts: u64) -> WatchMessage {
        let facts = Facts { uid: "u1".into(), node: node.into(), restarts, ..Facts::default() };
        let value = Some(serde_json::to_string(&facts).unwrap());
        let event = KeyEvent { key: "pods/d/p".into(), value, mod_revision: revision, ..KeyEvent::default() };
        let step = WatchStep::Events { revision, events: vec![event] };
        WatchMessage { time: revision, watcher: "i1".into(), step }
    }

    fn bind(begin: u64, node: &str) -> Operation {
        let action = Action::Bind { pod: "d/p/u1".into(), node: node.into() };
        ok(0, begin, begin + 1, action, Answer::default())
    }

    fn found(operations: Vec<Operation>, watches: Vec<WatchMessage>, faults: &[&str]) -> Vec<String> {
        let mut history = history(operations);
        history.watches = watches;
        let fault = |detail: &&str| {
            let (name, phase) = ("kill-node".to_owned(), FaultPhase::Begin);
            Fault { time: 0, id: 1, name, phase, detail: (*detail).to_owned() }
        };
        history.faults = faults.iter().map(fault).collect();
        pods(&history).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn a_pod_is_bound_once() {
        assert!(found(vec![bind(0, "n1")], vec![told(1, "", 0), told(2, "n1", 0)], &[]).is_empty());
        assert_eq!(found(vec![bind(0, "n1"), bind(2, "n2")], vec![], &[]), ["bound-twice"]);
        assert_eq!(found(vec![], vec![told(1, "n1", 0), told(2, "n2", 0)], &[]), ["bound-twice"]);
        assert_eq!(found(vec![], vec![told(1, "n1", 0), told(2, "", 0)], &[]), ["bound-twice"]);
        assert_eq!(found(vec![bind(0, "n1")], vec![told(2, "n2", 0)], &[]), ["bound-elsewhere"]);
    }

    #[test]
    fn a_masters_death_restarts_no_container() {
        let watches = || vec![told(1, "n1-0", 0), told(2, "n1-0", 1)];
        assert_eq!(found(vec![], watches(), &["m1"]), ["restarted"]);
        assert!(found(vec![], watches(), &["m1", "n1 agent"]).is_empty());
        assert_eq!(found(vec![], watches(), &["n11"]), ["restarted"]);
    }
}
