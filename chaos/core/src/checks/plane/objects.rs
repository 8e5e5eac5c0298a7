//! Objects: what was acknowledged stays, what is deleted stays deleted, reads are consistent, finalizers and owners are
//! honoured, and every cache equals the store in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{STORE, observed::versions, violation};
use crate::{
    history::{Action, History, Operation},
    verdict::{Timeline, Verdict, Violation},
};

/// Everything that clients did with one object; what was certainly refused is left out.
#[derive(Default)]
struct Story<'history> {
    changes: Vec<&'history Operation>,
    gets: Vec<&'history Operation>,
}

/// Whether no acknowledged object was lost or came back, no read fell behind what had been acknowledged, finalizers held
/// deletions up, what had lost its owner was collected, and every cache ended as the store did.
pub fn objects(history: &History) -> Verdict {
    let mut stories: BTreeMap<&str, Story<'_>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| !operation.failed()) {
        match &operation.action {
            Action::Create { object }
            | Action::Update { object, .. }
            | Action::Remove { object }
            | Action::LetGo { object } => stories.entry(object).or_default().changes.push(operation),
            Action::Get { object } if operation.answer().is_some() => {
                stories.entry(object).or_default().gets.push(operation);
            }
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for (object, story) in &stories {
        violations.extend(story.gets.iter().filter_map(|get| consistent(object, story, get)));
        if let Some(store) = history.finals.get(STORE) {
            violations.extend(survives(object, story, store.get(*object).copied()));
        }
    }
    if let Some(store) = history.finals.get(STORE) {
        let caches = history.finals.iter().filter(|(source, _)| *source != STORE);
        violations.extend(caches.filter_map(|(cache, content)| equals(cache, content, store)));
    }
    violations.extend(finalized(history, &stories));
    violations.extend(orphans(history));
    let gets: usize = stories.values().map(|story| story.gets.len()).sum();
    let caches = history.finals.len().saturating_sub(1);
    let summary = format!("{} objects, {gets} consistent reads, {caches} caches", stories.len());
    Verdict::new("objects", stories.len() + history.finals.len(), summary, violations)
}

fn removes(operation: &Operation) -> bool {
    matches!(operation.action, Action::Remove { .. } | Action::LetGo { .. })
}

fn creates(operation: &Operation) -> bool {
    matches!(operation.action, Action::Create { .. })
}

fn revision(operation: &Operation) -> Option<u64> {
    operation.answer().and_then(|answer| answer.revision)
}

/// Whether `later` may have taken effect after `earlier`, by revisions if both are known, by time if not.
fn may_follow(later: &Operation, earlier: &Operation) -> bool {
    match (revision(later), revision(earlier)) {
        (Some(later), Some(earlier)) => later > earlier,
        _ => later.effective_until() >= earlier.invoked,
    }
}

impl Story<'_> {
    /// An acknowledged change after which nothing that was asked for can have removed the object.
    fn must_be_there(&self, until: u64) -> Option<&Operation> {
        let settled = self.changes.iter().filter(|change| !removes(change) && change.effective_until() < until);
        let gone = |change: &Operation| {
            self.changes.iter().any(|other| removes(other) && other.invoked < until && may_follow(other, change))
        };
        settled.filter(|change| !gone(change)).max_by_key(|change| revision(change)).copied()
    }

    /// An acknowledged removal after which nothing that was asked for can have created the object.
    fn must_be_gone(&self, until: u64) -> Option<&Operation> {
        let mut settled = self
            .changes
            .iter()
            .filter(|change| matches!(change.action, Action::Remove { .. }) && change.effective_until() < until);
        let back = |removal: &Operation| {
            self.changes.iter().any(|other| creates(other) && other.invoked < until && may_follow(other, removal))
        };
        settled.rfind(|removal| !back(removal)).copied()
    }

    /// The highest version acknowledged before a moment.
    fn newest(&self, before: u64) -> Option<(&Operation, u64)> {
        let settled = self.changes.iter().filter(|change| change.effective_until() < before);
        settled.filter_map(|change| Some((*change, revision(change)?))).max_by_key(|(_, revision)| *revision)
    }
}

fn consistent(object: &str, story: &Story<'_>, get: &Operation) -> Option<Violation> {
    match revision(get) {
        Some(found) => {
            // Removals that are still open may have been followed by nothing: only what was known counts.
            if let Some(removal) = story.must_be_gone(get.invoked)
                && !story.changes.iter().any(|other| {
                    creates(other)
                        && get.completed.is_some_and(|end| other.invoked <= end)
                        && may_follow(other, removal)
                })
            {
                let explanation = format!("{object} was read after its deletion had been acknowledged");
                return Some(Violation::of("read-resurrected", explanation, &[removal, get]));
            }
            let (by, newest) = story.newest(get.invoked)?;
            let explanation = format!("{object} was read as of {found} after {newest} had been acknowledged");
            (found < newest).then(|| Violation::of("stale-get", explanation, &[by, get]))
        }
        None => {
            let change = story.must_be_there(get.invoked)?;
            let removed_meanwhile = |other: &Operation| {
                removes(other) && get.completed.is_some_and(|end| other.invoked <= end) && may_follow(other, change)
            };
            if story.changes.iter().any(|other| removed_meanwhile(other)) {
                return None;
            }
            let explanation = format!("{object} was not found though it had been acknowledged and nobody removed it");
            Some(Violation::of("get-lost", explanation, &[change, get]))
        }
    }
}

/// An object's acknowledged changes against the store's final content. Others may change it too, so its version may be
/// higher than any that was acknowledged.
fn survives(object: &str, story: &Story<'_>, found: Option<u64>) -> Option<Violation> {
    let shown = |operation| Some(vec![operation]);
    let (anomaly, explanation, by) = match found {
        None => {
            let change = story.must_be_there(u64::MAX)?;
            ("object-lost", format!("{object} was acknowledged and is not there in the end"), shown(change)?)
        }
        Some(version) => {
            if let Some(removal) = story.must_be_gone(u64::MAX) {
                let explanation = format!("the deletion of {object} was acknowledged, and it is there as of {version}");
                ("object-resurrected", explanation, shown(removal)?)
            } else {
                let (by, newest) = story.newest(u64::MAX)?;
                if version >= newest {
                    return None;
                }
                let explanation = format!("{object} was acknowledged at {newest} and is there as of {version}");
                ("update-lost", explanation, shown(by)?)
            }
        }
    };
    Some(Violation::of(anomaly, explanation, &by))
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

/// What vanished while a finalizer that nobody had taken away held it.
fn finalized(history: &History, stories: &BTreeMap<&str, Story<'_>>) -> Vec<Violation> {
    let mut held: HashMap<&str, super::observed::Version<'_>> = HashMap::new();
    let mut found = Vec::new();
    for version in versions(history, "") {
        match &version.facts {
            Some(facts) if !facts.finalizers.is_empty() => {
                held.insert(version.object, version);
            }
            Some(_) => {
                held.remove(version.object);
            }
            None => {
                let Some(last) = held.remove(version.object) else { continue };
                let Some(story) = stories.get(version.object) else { continue };
                let asked = story
                    .changes
                    .iter()
                    .any(|change| matches!(change.action, Action::LetGo { .. }) && change.invoked <= version.time());
                if !asked {
                    let explanation = format!("{} vanished though a finalizer held it", version.object);
                    let seen = vec![last.bar("with a finalizer"), version.bar("gone")];
                    found.push(violation("finalizer-ignored", explanation, &story.changes, seen));
                }
            }
        }
    }
    found
}

/// What is still there though none of its owners is.
fn orphans(history: &History) -> Vec<Violation> {
    let alive: HashSet<&str> = history.facts.values().map(|facts| facts.uid.as_str()).collect();
    let left = history.facts.iter().filter(|(_, facts)| {
        !facts.owners.is_empty() && !facts.owners.iter().any(|owner| alive.contains(owner.as_str()))
    });
    let explain = |object: &String| format!("{object} is there in the end though its owner is gone");
    left.map(|(object, _)| violation("orphan-left", explain(object), &[], Vec::new())).collect()
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
