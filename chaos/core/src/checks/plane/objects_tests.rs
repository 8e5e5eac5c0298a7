use super::*;
use crate::{
    history::{Answer, Facts, KeyEvent, WatchMessage, WatchStep},
    made::{history, ok, unknown},
};

const OBJECT: &str = "configmaps/d/a";

fn at(begin: u64, action: Action, revision: Option<u64>) -> Operation {
    ok(0, begin, begin + 1, action, Answer { revision, ..Answer::default() })
}

fn create(begin: u64, revision: u64) -> Operation {
    at(begin, Action::Create { object: OBJECT.into() }, Some(revision))
}

fn update(begin: u64, revision: u64) -> Operation {
    at(begin, Action::Update { object: OBJECT.into(), based_on: None }, Some(revision))
}

/// The API tells no resourceVersion of a deletion.
fn remove(begin: u64) -> Operation {
    at(begin, Action::Remove { object: OBJECT.into() }, None)
}

fn get(begin: u64, revision: Option<u64>) -> Operation {
    at(begin, Action::Get { object: OBJECT.into() }, revision)
}

fn judge(history: &History) -> Vec<String> {
    objects(history).violations.into_iter().map(|violation| violation.anomaly).collect()
}

fn found(operations: Vec<Operation>, finals: &[(&str, &[u64])]) -> Vec<String> {
    let mut history = history(operations);
    for (source, versions) in finals {
        let content = versions.iter().map(|version| (OBJECT.to_owned(), *version)).collect();
        history.finals.insert((*source).to_owned(), content);
    }
    judge(&history)
}

#[test]
fn acknowledged_objects_survive() {
    assert!(found(vec![create(0, 5), update(2, 7)], &[("store", &[7])]).is_empty());
    assert!(found(vec![create(0, 5)], &[("store", &[9])]).is_empty());
    assert_eq!(found(vec![create(0, 5)], &[("store", &[])]), ["object-lost"]);
    assert_eq!(found(vec![create(0, 5), update(2, 7)], &[("store", &[5])]), ["update-lost"]);
    let maybe = unknown(1, 3, 4, Action::Remove { object: OBJECT.into() });
    assert!(found(vec![create(0, 5), maybe], &[("store", &[])]).is_empty());
}

#[test]
fn the_deleted_stay_deleted() {
    assert!(found(vec![create(0, 5), remove(2)], &[("store", &[])]).is_empty());
    assert_eq!(found(vec![create(0, 5), remove(2)], &[("store", &[5])]), ["object-resurrected"]);
    assert!(found(vec![create(0, 5), remove(2), create(4, 9)], &[("store", &[9])]).is_empty());
    assert_eq!(found(vec![create(0, 5), remove(2), create(4, 9)], &[("store", &[])]), ["object-lost"]);
    // A creation whose outcome nobody knows may come late.
    let maybe = unknown(1, 0, 1, Action::Create { object: OBJECT.into() });
    assert!(found(vec![maybe, remove(2)], &[("store", &[5])]).is_empty());
}

#[test]
fn reads_are_consistent() {
    assert!(found(vec![create(0, 5), get(2, Some(5)), remove(4), get(6, None)], &[]).is_empty());
    assert_eq!(found(vec![create(0, 5), update(2, 7), get(4, Some(5))], &[]), ["stale-get"]);
    assert_eq!(found(vec![create(0, 5), get(2, None)], &[]), ["get-lost"]);
    assert_eq!(found(vec![create(0, 5), remove(2), get(4, Some(5))], &[]), ["read-resurrected"]);
    // Removed or written while it was read.
    let during = |action| ok(1, 3, 9, action, Answer::default());
    let removal = during(Action::Remove { object: OBJECT.into() });
    assert!(found(vec![create(0, 5), removal.clone(), get(4, None)], &[]).is_empty());
    assert!(found(vec![create(0, 5), removal, get(4, Some(5))], &[]).is_empty());
}

#[test]
fn caches_equal_the_store() {
    assert!(found(vec![], &[("store", &[5]), ("informer", &[5])]).is_empty());
    assert_eq!(found(vec![], &[("store", &[5]), ("informer", &[4])]), ["cache-differs"]);
    assert_eq!(found(vec![], &[("store", &[5]), ("informer", &[])]), ["cache-differs"]);
    assert_eq!(found(vec![], &[("store", &[]), ("informer", &[4])]), ["cache-differs"]);
    assert!(found(vec![], &[("store", &[5]), ("informer@pods/", &[])]).is_empty());
}

fn told(time: u64, revision: u64, facts: Option<Facts>) -> WatchMessage {
    let value = facts.map(|facts| serde_json::to_string(&facts).unwrap());
    let event = KeyEvent { key: OBJECT.into(), value, mod_revision: revision, ..KeyEvent::default() };
    WatchMessage { time, watcher: "i1".into(), step: WatchStep::Events { revision, events: vec![event] } }
}

#[test]
fn a_finalizer_holds_an_object_until_somebody_takes_it_away() {
    let held = Facts { finalizers: vec!["chaos".into()], ..Facts::default() };
    let let_go = |begin| at(begin, Action::LetGo { object: OBJECT.into() }, None);
    let mut history = history(vec![create(0, 5), let_go(20)]);
    history.watches = vec![told(3, 5, Some(held.clone())), told(25, 9, None)];
    assert!(judge(&history).is_empty());
    history.watches[1].time = 10;
    assert_eq!(judge(&history), ["finalizer-ignored"]);
}

#[test]
fn what_lost_its_owner_is_collected() {
    let facts = |uid: &str, owners: &[&str]| Facts {
        uid: uid.into(),
        owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        ..Facts::default()
    };
    let mut history = history(vec![create(0, 5)]);
    history.facts = [("a".to_owned(), facts("1", &[])), ("b".to_owned(), facts("2", &["1"]))].into();
    assert!(judge(&history).is_empty());
    history.facts.remove("a");
    assert_eq!(judge(&history), ["orphan-left"]);
}
