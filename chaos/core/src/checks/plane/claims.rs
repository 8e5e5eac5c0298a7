//! Addresses and node ports: nothing is held by two at a time.

use std::collections::{BTreeMap, HashMap};

use super::{
    observed::{Version, reaches, seen_between, versions},
    violation,
};
use crate::{
    history::{Action, History, Operation},
    verdict::{Verdict, Violation},
};

/// Whether no address or node port was given to a second Service while the first one held it: by what clients were told,
/// and by the order in which watchers saw it.
pub fn claims(history: &History) -> Verdict {
    let mut resources: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| !operation.failed()) {
        if let Action::Claim { resource, .. } | Action::Unclaim { resource, .. } = &operation.action {
            resources.entry(resource).or_default().push(operation);
        }
    }
    let mut violations: Vec<_> =
        resources.iter().flat_map(|(resource, changes)| held_twice(resource, changes)).collect();
    let versions = versions(history, "services/");
    violations.extend(seen_twice(history, &versions));
    let summary = format!("{} addresses and ports, {} versions of Services seen", resources.len(), versions.len());
    Verdict::new("claims", resources.len() + versions.len(), summary, violations)
}

fn held_twice(resource: &str, changes: &[&Operation]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut held: Vec<(&Operation, &str)> = Vec::new();
    for change in changes {
        let Action::Claim { owner, .. } = &change.action else { continue };
        if change.answer().is_none() {
            continue;
        }
        let given_up = |by: &str| {
            changes.iter().any(|other| {
                matches!(&other.action, Action::Unclaim { owner, .. } if owner == by)
                    && other.invoked <= change.effective_until()
            })
        };
        if let Some((other, by)) = held.iter().find(|(_, by)| *by != owner && !given_up(by)) {
            let explanation = format!("{resource} was given to {owner} while {by} held it");
            found.push(Violation::of("given-twice", explanation, &[other, change]));
        }
        held.push((change, owner));
    }
    found
}

/// In order of resourceVersion there is no doubt about who held what when.
fn seen_twice(history: &History, versions: &[Version<'_>]) -> Vec<Violation> {
    let reaches = reaches(history);
    let mut holders: HashMap<&str, &Version<'_>> = HashMap::new();
    let mut found = Vec::new();
    for version in versions {
        let claims = version.facts.as_ref().map_or(&[][..], |facts| &facts.claims);
        holders.retain(|claim, holder| holder.object != version.object || claims.iter().any(|held| held == claim));
        for claim in claims {
            let Some(holder) = holders.insert(claim, version) else { continue };
            let certain = seen_between(&reaches, holder.object, holder.revision, version.revision);
            if holder.object != version.object && certain {
                let explanation = format!("{claim} was given to {} while {} held it", version.object, holder.object);
                let seen = [holder, version].map(|seen| seen.bar(claim)).to_vec();
                found.push(violation("given-twice", explanation, &[], seen));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Answer, Facts, KeyEvent, WatchMessage, WatchStep},
        made::{history, ok},
    };

    fn at(begin: u64, action: Action) -> Operation {
        ok(0, begin, begin + 1, action, Answer::default())
    }

    fn found(operations: Vec<Operation>) -> Vec<String> {
        claims(&history(operations)).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn an_address_has_one_owner() {
        let claim = |begin, owner: &str| at(begin, Action::Claim { resource: "ip/1".into(), owner: owner.into() });
        let unclaim = |begin, owner: &str| at(begin, Action::Unclaim { resource: "ip/1".into(), owner: owner.into() });
        assert_eq!(found(vec![claim(0, "a"), claim(2, "b")]), ["given-twice"]);
        assert!(found(vec![claim(0, "a"), unclaim(2, "a"), claim(4, "b")]).is_empty());
        assert_eq!(found(vec![claim(0, "a"), claim(2, "b"), unclaim(4, "a")]), ["given-twice"]);
    }

    fn seen(steps: &[(&str, u64, bool)]) -> Vec<String> {
        let mut history = History::default();
        let message = |time, step| WatchMessage { time, watcher: "i1".into(), step };
        history.watches.push(message(0, WatchStep::Open { prefix: "services/".into(), from: 1, prev_kv: false }));
        for (object, revision, there) in steps {
            let facts = Facts { claims: vec!["ip/1".into()], ..Facts::default() };
            let value = there.then(|| serde_json::to_string(&facts).unwrap());
            let event = KeyEvent { key: (*object).into(), value, mod_revision: *revision, ..KeyEvent::default() };
            history.watches.push(message(*revision, WatchStep::Events { revision: *revision, events: vec![event] }));
        }
        claims(&history).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn watchers_see_one_owner_after_the_other() {
        assert!(seen(&[("services/d/a", 3, true), ("services/d/a", 5, false), ("services/d/b", 6, true)]).is_empty());
        assert!(seen(&[("services/d/a", 3, true), ("services/d/a", 4, true)]).is_empty());
        assert_eq!(seen(&[("services/d/a", 3, true), ("services/d/b", 5, true)]), ["given-twice"]);
    }
}
