//! A uid has one life: it is born once, and what died with it never comes back. Whoever creates the same name again is
//! somebody else.

use std::collections::{BTreeMap, HashMap};

use super::{
    STORE,
    observed::{Version, versions},
    violation,
};
use crate::{
    history::{Action, History},
    verdict::{Bar, Verdict, Violation},
};

/// One uid's life, as far as it was told.
#[derive(Default)]
struct Life {
    /// Where it was born, once for each revision.
    births: BTreeMap<u64, Bar>,
    /// The first deletion.
    death: Option<(u64, Bar)>,
    /// The first that was told of it after its death.
    ghost: Option<(u64, Bar)>,
}

impl Life {
    fn died(&mut self, version: &Version<'_>, how: &str) {
        self.death.get_or_insert_with(|| (version.revision, version.bar(how)));
    }

    /// Something was told of it, at least as late as everything before.
    fn seen(&mut self, revision: u64, bar: impl FnOnce() -> Bar) {
        if self.ghost.is_none() && self.death.as_ref().is_some_and(|(death, _)| *death < revision) {
            self.ghost = Some((revision, bar()));
        }
    }
}

/// Whether no uid that was deleted appeared again, and none was created at two revisions; by what watchers saw, what
/// clients were told of their creations, and what was there in the end.
pub fn lives(history: &History) -> Verdict {
    let mut lives: BTreeMap<String, Life> = BTreeMap::new();
    // Whom each name means.
    let mut named: HashMap<&str, String> = HashMap::new();
    for version in versions(history, "") {
        match &version.facts {
            Some(facts) if facts.uid.is_empty() => {}
            Some(facts) => {
                // A deletion that no watcher was told of, between two lists.
                let before = named.insert(version.object, facts.uid.clone());
                if let Some(before) = before.filter(|before| *before != facts.uid) {
                    lives.entry(before).or_default().died(&version, "is somebody else by now");
                }
                let life = lives.entry(facts.uid.clone()).or_default();
                life.seen(version.revision, || version.bar(&facts.uid));
                if version.is_creation() {
                    life.births.entry(version.revision).or_insert_with(|| version.bar("created"));
                }
            }
            None => {
                let uid = named.remove(version.object);
                if let Some(uid) = version.deleted_uid().map(str::to_owned).or(uid) {
                    lives.entry(uid).or_default().died(&version, "deleted");
                }
            }
        }
    }
    for operation in &history.operations {
        let Some(answer) = operation.answer().filter(|_| matches!(operation.action, Action::Create { .. })) else {
            continue;
        };
        if let (Some(uid), Some(revision)) = (&answer.uid, answer.revision) {
            let life = lives.entry(uid.clone()).or_default();
            life.births.entry(revision).or_insert_with(|| operation.bar(false));
        }
    }
    for (object, facts) in &history.facts {
        let revision = history.finals.get(STORE).and_then(|store| store.get(object));
        if let (Some(life), Some(revision)) = (lives.get_mut(&facts.uid), revision) {
            life.seen(*revision, || in_the_end(object, *revision, life_end(history)));
        }
    }
    let violations: Vec<_> =
        lives.iter().flat_map(|(uid, life)| [twice(uid, life), back(uid, life)]).flatten().collect();
    Verdict::new("lives", lives.len(), format!("{} uids", lives.len()), violations)
}

/// The last moment that anything was told.
fn life_end(history: &History) -> u64 {
    history.watches.iter().map(|message| message.time).max().unwrap_or(0)
}

fn in_the_end(object: &str, revision: u64, time: u64) -> Bar {
    let label = format!("{object} @{revision} there in the end");
    Bar { row: STORE.to_owned(), begin: time, end: Some(time), label, guilty: false }
}

fn twice(uid: &str, life: &Life) -> Option<Violation> {
    if life.births.len() < 2 {
        return None;
    }
    let revisions: Vec<_> = life.births.keys().map(u64::to_string).collect();
    let explanation = format!("{uid} was created at the revisions {}", revisions.join(", "));
    Some(violation("uid-created-twice", explanation, &[], life.births.values().cloned().collect()))
}

fn back(uid: &str, life: &Life) -> Option<Violation> {
    let ((death, died), (revision, ghost)) = (life.death.as_ref()?, life.ghost.as_ref()?);
    let explanation = format!("{uid} was deleted at {death}, and is there as of {revision}");
    Some(violation("uid-resurrected", explanation, &[], vec![died.clone(), ghost.clone()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Answer, Facts, KeyEvent, WatchMessage, WatchStep},
        made::{history, ok},
    };

    const OBJECT: &str = "configmaps/d/a";

    fn told(watcher: &str, event: KeyEvent) -> WatchMessage {
        let (time, revision) = (event.mod_revision, event.mod_revision);
        let step = WatchStep::Events { revision, events: vec![KeyEvent { key: OBJECT.into(), ..event }] };
        WatchMessage { time, watcher: watcher.into(), step }
    }

    fn there(uid: &str, mod_revision: u64, create_revision: u64) -> KeyEvent {
        let facts = Facts { uid: uid.into(), ..Facts::default() };
        let value = Some(serde_json::to_string(&facts).unwrap());
        KeyEvent { value, mod_revision, create_revision, ..KeyEvent::default() }
    }

    fn added(uid: &str, revision: u64) -> KeyEvent {
        there(uid, revision, revision)
    }

    fn modified(uid: &str, revision: u64) -> KeyEvent {
        there(uid, revision, 0)
    }

    fn deleted(uid: Option<&str>, mod_revision: u64) -> KeyEvent {
        KeyEvent { mod_revision, uid: uid.map(str::to_owned), ..KeyEvent::default() }
    }

    fn seen(events: Vec<KeyEvent>) -> History {
        let mut history = history(Vec::new());
        history.watches = events.into_iter().map(|event| told("i1", event)).collect();
        history
    }

    fn judge(history: &History) -> Vec<String> {
        lives(history).violations.into_iter().map(|violation| violation.anomaly).collect()
    }

    fn found(events: Vec<KeyEvent>) -> Vec<String> {
        judge(&seen(events))
    }

    #[test]
    fn a_name_may_mean_one_after_the_other() {
        assert!(found(vec![added("a", 5), modified("a", 6), deleted(Some("a"), 7), added("b", 9)]).is_empty());
        // Histories of before deletions told their uid.
        assert!(found(vec![modified("a", 5), deleted(None, 7), modified("b", 9), deleted(None, 11)]).is_empty());
        // Between two lists nobody watched.
        assert!(found(vec![added("a", 5), modified("b", 9)]).is_empty());
    }

    #[test]
    fn the_dead_stay_dead() {
        assert_eq!(found(vec![modified("a", 5), deleted(Some("a"), 7), modified("a", 9)]), ["uid-resurrected"]);
        assert_eq!(found(vec![modified("a", 5), deleted(None, 7), modified("a", 9)]), ["uid-resurrected"]);
        assert_eq!(found(vec![deleted(Some("a"), 7), modified("a", 9)]), ["uid-resurrected"]);
        assert_eq!(found(vec![modified("a", 5), modified("b", 7), modified("a", 9)]), ["uid-resurrected"]);
        let both = ["uid-created-twice", "uid-resurrected"];
        assert_eq!(found(vec![added("a", 5), deleted(Some("a"), 7), added("a", 9), deleted(Some("a"), 11)]), both);
    }

    #[test]
    fn a_uid_is_born_once() {
        assert_eq!(found(vec![added("a", 5), added("a", 9)]), ["uid-created-twice"]);
        let creation = |revision| {
            let answer = Answer { uid: Some("a".into()), revision: Some(revision), ..Answer::default() };
            ok(0, 0, 1, Action::Create { object: OBJECT.into() }, answer)
        };
        let mut history = seen(vec![added("a", 5)]);
        history.operations = vec![creation(5)];
        assert!(judge(&history).is_empty());
        history.operations = vec![creation(9)];
        assert_eq!(judge(&history), ["uid-created-twice"]);
    }

    #[test]
    fn watchers_of_different_speed_see_the_same_life() {
        let mut history = seen(vec![added("a", 5), deleted(Some("a"), 7)]);
        for event in [added("a", 5), deleted(Some("a"), 7)] {
            let late = told("i2", event);
            history.watches.push(WatchMessage { time: 100 + late.time, ..late });
        }
        assert!(judge(&history).is_empty());
    }

    #[test]
    fn what_is_there_in_the_end_was_not_deleted_before() {
        let mut history = seen(vec![added("a", 5), deleted(Some("a"), 7)]);
        let facts = |uid: &str| Facts { uid: uid.into(), ..Facts::default() };
        let mut end = |uid: &str, revision| {
            history.facts = [(OBJECT.to_owned(), facts(uid))].into();
            history.finals = [(STORE.to_owned(), [(OBJECT.to_owned(), revision)].into())].into();
            judge(&history)
        };
        assert!(end("b", 9).is_empty());
        // It was looked at before it was deleted.
        assert!(end("a", 5).is_empty());
        assert_eq!(end("a", 9), ["uid-resurrected"]);
    }
}
