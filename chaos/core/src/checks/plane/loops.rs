//! Control loops: one leads at a time, and what they are asked for gets done.

use std::collections::{BTreeMap, HashSet};

use super::{
    observed::{Version, versions},
    violation,
};
use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether the writes of two terms of a leadership never interleave (the Lease that names the leader is written under its
/// fence), every Deployment has what it wants in the end, and nothing that was awaited stayed undone.
pub fn loops(history: &History) -> Verdict {
    let versions = versions(history, "leases/");
    let mut leases: BTreeMap<&str, Vec<&Version<'_>>> = BTreeMap::new();
    for version in &versions {
        leases.entry(version.object).or_default().push(version);
    }
    let mut violations: Vec<_> = leases.iter().flat_map(|(lease, versions)| interleaved(lease, versions)).collect();
    let deployments = history.facts.iter().filter_map(|(object, facts)| Some((object, facts, facts.replicas?)));
    let mut converged = 0;
    for (object, facts, (wanted, ready)) in deployments {
        converged += usize::from(facts.converged());
        if !facts.converged() {
            let explanation = format!("{object} wants {wanted} replicas and has {ready} in the end");
            violations.push(violation("not-converged", explanation, &[], Vec::new()));
        }
    }
    let awaited = || history.operations.iter().filter(|operation| matches!(operation.action, Action::Await { .. }));
    violations.extend(awaited().filter(|operation| operation.failed()).map(undone));
    let terms: HashSet<&str> = versions.iter().map(term).collect();
    let (terms, awaited) = (terms.len(), awaited().count());
    let summary = format!("{terms} terms, {converged} Deployments converged, {awaited} things awaited");
    Verdict::new("control-loops", terms + converged + awaited, summary, violations)
}

fn term<'a>(version: &'a Version<'_>) -> &'a str {
    version.facts.as_ref().map_or("", |facts| &facts.term)
}

fn undone(operation: &Operation) -> Violation {
    let explanation = "a control loop did not do in time what it has to".to_owned();
    Violation::of("not-done", explanation, &[operation])
}

fn interleaved(lease: &str, versions: &[&Version<'_>]) -> Vec<Violation> {
    let mut over: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for pair in versions.windows(2) {
        let (before, now) = (term(pair[0]), term(pair[1]));
        if before == now {
            continue;
        }
        over.insert(before);
        if over.contains(now) && !now.is_empty() {
            let explanation = format!("{now} wrote {lease} after {before} had led in its place");
            let seen = pair.iter().map(|version| version.bar(term(version))).collect();
            found.push(violation("two-leaders", explanation, &[], seen));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Facts, KeyEvent, WatchMessage, WatchStep};

    fn found(terms: &[&str], replicas: Option<(u64, u64)>) -> Vec<String> {
        let mut history = History::default();
        for (at, term) in terms.iter().enumerate() {
            let revision = at as u64 + 1;
            let facts = Facts { term: (*term).to_owned(), ..Facts::default() };
            let value = Some(serde_json::to_string(&facts).unwrap());
            let key = "leases/kube-system/kube-scheduler".to_owned();
            let event = KeyEvent { key, value, mod_revision: revision, ..KeyEvent::default() };
            let step = WatchStep::Events { revision, events: vec![event] };
            history.watches.push(WatchMessage { time: revision, watcher: "i1".into(), step });
        }
        history.facts.insert("deployments/d/a".into(), Facts { replicas, ..Facts::default() });
        loops(&history).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn one_leads_after_the_other() {
        assert!(found(&["m1@1", "m1@1", "m2@5", "m1@9"], None).is_empty());
        assert_eq!(found(&["m1@1", "m2@5", "m1@1"], None), ["two-leaders"]);
    }

    #[test]
    fn deployments_converge() {
        assert!(found(&[], Some((3, 3))).is_empty());
        assert_eq!(found(&[], Some((3, 2))), ["not-converged"]);
    }
}
