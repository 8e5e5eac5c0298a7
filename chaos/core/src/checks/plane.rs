//! The control plane: no object lost or resurrected, caches equal the store, nothing given out twice.

use std::collections::{BTreeMap, HashMap};

use crate::{
    history::{Action, History, Operation},
    verdict::{Timeline, Verdict, Violation},
};

/// The source of the final content that all others must equal.
const STORE: &str = "store";

/// Whether every acknowledged object is there at the end (and every acknowledged deletion holds), every cache's final
/// content equals the store's, no pod was bound twice, and no address or port was held by two.
pub fn check(history: &History) -> Verdict {
    let mut violations = Vec::new();
    let mut objects: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    let mut pods: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    let mut resources: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| !operation.failed()) {
        match &operation.action {
            Action::Create { object } | Action::Update { object, .. } | Action::Remove { object } => {
                objects.entry(object).or_default().push(operation);
            }
            Action::Bind { pod, .. } if operation.answer().is_some() => pods.entry(pod).or_default().push(operation),
            Action::Claim { resource, .. } | Action::Unclaim { resource, .. } => {
                resources.entry(resource).or_default().push(operation);
            }
            _ => {}
        }
    }
    if let Some(store) = history.finals.get(STORE) {
        violations.extend(objects.iter().filter_map(|(object, changes)| survives(object, changes, store)));
        for (cache, content) in history.finals.iter().filter(|(source, _)| *source != STORE) {
            violations.extend(equals(cache, content, store));
        }
    }
    for (pod, bindings) in pods.iter().filter(|(_, bindings)| bindings.len() > 1) {
        let explanation = format!("pod {pod} was bound {} times", bindings.len());
        violations.push(Violation::of("bound-twice", explanation, bindings));
    }
    violations.extend(resources.iter().flat_map(|(resource, changes)| held_twice(resource, changes)));
    let looked_at = objects.len() + pods.len() + resources.len() + history.finals.len();
    let caches = history.finals.len().saturating_sub(1);
    let summary = format!(
        "{} objects, {caches} caches, {} pods bound, {} addresses and ports",
        objects.len(),
        pods.len(),
        resources.len()
    );
    Verdict::new("control-plane", looked_at, summary, violations)
}

/// An object's acknowledged changes against the store's final content. Others may change it too, so its version may be
/// higher than any that was acknowledged.
fn survives(object: &str, changes: &[&Operation], store: &BTreeMap<String, u64>) -> Option<Violation> {
    let revision = |operation: &&&Operation| operation.answer().and_then(|answer| answer.revision);
    let last = changes.iter().filter(|operation| revision(operation).is_some()).max_by_key(revision)?;
    let acknowledged = revision(&last)?;
    let removes = |operation: &Operation| matches!(operation.action, Action::Remove { .. });
    // What has no revision may have come after.
    let mut open = changes.iter().filter(|operation| operation.answer().is_none_or(|answer| answer.revision.is_none()));
    let found = store.get(object);
    let (anomaly, explanation) = match (removes(last), found) {
        (false, None) if !open.any(|operation| removes(operation)) => {
            ("object-lost", format!("{object} was acknowledged at {acknowledged} and is not there"))
        }
        (false, Some(version)) if *version < acknowledged => {
            ("update-lost", format!("{object} was acknowledged at {acknowledged} and is there as of {version}"))
        }
        (true, Some(version)) if !open.any(|operation| matches!(operation.action, Action::Create { .. })) => {
            ("object-resurrected", format!("{object} was deleted at {acknowledged} and is there as of {version}"))
        }
        _ => return None,
    };
    Some(Violation::of(anomaly, explanation, &changes[changes.len().saturating_sub(4)..]))
}

/// A cache named `name@prefix` holds the objects with that prefix, any other all of them.
fn equals(cache: &str, content: &BTreeMap<String, u64>, store: &BTreeMap<String, u64>) -> Option<Violation> {
    let prefix = cache.split_once('@').map_or("", |(_, prefix)| prefix);
    let expected: HashMap<_, _> = store.iter().filter(|(object, _)| object.starts_with(prefix)).collect();
    let stale = content.iter().find(|(object, version)| expected.get(object) != Some(version));
    let absent = expected.keys().filter(|object| !content.contains_key(**object)).min();
    let what = match (stale, absent) {
        (Some((object, version)), _) => match expected.get(object) {
            Some(there) => format!("holds {object} as of {version}, the store as of {there}"),
            None => format!("still holds {object}"),
        },
        (None, Some(object)) => format!("does not hold {object}"),
        (None, None) => return None,
    };
    let explanation = format!("the cache {cache} {what}");
    Some(Violation { anomaly: "cache-differs".to_owned(), explanation, timeline: Timeline::default() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::Answer,
        made::{history, ok, unknown},
    };

    fn at(begin: u64, action: Action, revision: u64) -> Operation {
        ok(0, begin, begin + 1, action, Answer { revision: Some(revision), ..Answer::default() })
    }

    fn create(begin: u64, revision: u64) -> Operation {
        at(begin, Action::Create { object: "configmaps/d/a".into() }, revision)
    }

    fn update(begin: u64, revision: u64) -> Operation {
        at(begin, Action::Update { object: "configmaps/d/a".into(), based_on: None }, revision)
    }

    fn remove(begin: u64, revision: u64) -> Operation {
        at(begin, Action::Remove { object: "configmaps/d/a".into() }, revision)
    }

    fn found(operations: Vec<Operation>, finals: &[(&str, &[u64])]) -> Vec<String> {
        let mut history = history(operations);
        for (source, versions) in finals {
            let content = versions.iter().map(|version| ("configmaps/d/a".to_owned(), *version)).collect();
            history.finals.insert((*source).to_owned(), content);
        }
        check(&history).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn acknowledged_objects_survive() {
        assert!(found(vec![create(0, 5), update(2, 7)], &[("store", &[7])]).is_empty());
        assert!(found(vec![create(0, 5)], &[("store", &[9])]).is_empty());
        assert_eq!(found(vec![create(0, 5)], &[("store", &[])]), ["object-lost"]);
        assert_eq!(found(vec![create(0, 5), update(2, 7)], &[("store", &[5])]), ["update-lost"]);
        let maybe = unknown(1, 3, 4, Action::Remove { object: "configmaps/d/a".into() });
        assert!(found(vec![create(0, 5), maybe], &[("store", &[])]).is_empty());
    }

    #[test]
    fn the_deleted_stay_deleted() {
        assert!(found(vec![create(0, 5), remove(2, 7)], &[("store", &[])]).is_empty());
        assert_eq!(found(vec![create(0, 5), remove(2, 7)], &[("store", &[5])]), ["object-resurrected"]);
        assert!(found(vec![create(0, 5), remove(2, 7), create(4, 9)], &[("store", &[9])]).is_empty());
    }

    #[test]
    fn caches_equal_the_store() {
        assert!(found(vec![], &[("store", &[5]), ("informer", &[5])]).is_empty());
        assert_eq!(found(vec![], &[("store", &[5]), ("informer", &[4])]), ["cache-differs"]);
        assert_eq!(found(vec![], &[("store", &[5]), ("informer", &[])]), ["cache-differs"]);
        assert_eq!(found(vec![], &[("store", &[]), ("informer", &[4])]), ["cache-differs"]);
        assert!(found(vec![], &[("store", &[5]), ("informer@pods/", &[])]).is_empty());
    }

    #[test]
    fn a_pod_is_bound_once() {
        let bind = |begin, node: &str| at(begin, Action::Bind { pod: "d/p/u1".into(), node: node.into() }, 1);
        assert!(found(vec![bind(0, "n1")], &[]).is_empty());
        assert_eq!(found(vec![bind(0, "n1"), bind(2, "n2")], &[]), ["bound-twice"]);
    }

    #[test]
    fn an_address_has_one_owner() {
        let claim = |begin, owner: &str| at(begin, Action::Claim { resource: "ip/1".into(), owner: owner.into() }, 1);
        let unclaim =
            |begin, owner: &str| at(begin, Action::Unclaim { resource: "ip/1".into(), owner: owner.into() }, 1);
        assert_eq!(found(vec![claim(0, "a"), claim(2, "b")], &[]), ["given-twice"]);
        assert!(found(vec![claim(0, "a"), unclaim(2, "a"), claim(4, "b")], &[]).is_empty());
        assert_eq!(found(vec![claim(0, "a"), claim(2, "b"), unclaim(4, "a")], &[]), ["given-twice"]);
    }
}
