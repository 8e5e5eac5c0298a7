use super::*;
use crate::{
    history::{Answer, PreviousValue},
    made::{history, ok},
    verdict::Judgement,
};

/// A store's life on one key `k/a`: three puts, a deletion, a put, at revisions 2 to 6.
fn life() -> Vec<KeyEvent> {
    let put = |revision: u64, created, version, prev: Option<u64>| KeyEvent {
        key: "k/a".into(),
        value: Some(revision.to_string()),
        mod_revision: revision,
        create_revision: created,
        version,
        prev: prev.map(|at| PreviousValue { value: at.to_string(), mod_revision: at }),
        uid: None,
    };
    let deletion = KeyEvent { value: None, ..put(5, 0, 0, Some(4)) };
    vec![put(2, 2, 1, None), put(3, 2, 2, Some(2)), put(4, 2, 3, Some(3)), deletion, put(6, 6, 1, None)]
}

struct Watching(Vec<WatchMessage>);

impl Watching {
    fn step(mut self, watcher: &str, step: WatchStep) -> Self {
        let time = 10 * (self.0.len() as u64 + 1);
        self.0.push(WatchMessage { time, watcher: watcher.into(), step });
        self
    }

    fn open(self, watcher: &str, from: u64) -> Self {
        self.step(watcher, WatchStep::Open { prefix: "k/".into(), from, prev_kv: true })
    }

    fn events(self, watcher: &str, events: &[KeyEvent]) -> Self {
        let revision = events.last().map_or(1, |event| event.mod_revision);
        self.step(watcher, WatchStep::Events { revision, events: events.to_vec() })
    }

    fn bookmark(self, watcher: &str, revision: u64) -> Self {
        self.step(watcher, WatchStep::Progress { revision })
    }

    fn judge(self) -> Verdict {
        check(&History { watches: self.0, ..History::default() })
    }

    fn holds(self) {
        let verdict = self.judge();
        assert_eq!(verdict.outcome, Judgement::Holds, "{verdict}");
    }

    #[track_caller]
    fn finds(self, anomaly: &str) {
        let verdict = self.judge();
        assert!(verdict.violations.iter().any(|violation| violation.anomaly == anomaly), "{verdict}");
    }
}

fn watching() -> Watching {
    Watching(Vec::new())
}

#[test]
fn what_a_store_should_say_holds_in_one_piece_or_many_and_when_resumed() {
    let life = life();
    let w = watching().open("w", 1).events("w", &life).bookmark("w", 9);
    let w = w.open("v", 2).events("v", &life[..2]).bookmark("v", 3).events("v", &life[2..3]);
    let w = w.step("v", WatchStep::Close { reason: "leader lost".into() });
    w.open("v", 5).events("v", &life[3..]).holds();
}

#[test]
fn a_dropped_event_is_caught_by_the_others_and_by_its_version() {
    let life = life();
    let dropped = [life[0].clone(), life[2].clone()];
    watching().open("w", 1).events("w", &life).open("v", 1).events("v", &dropped).finds("watch-lost");
    watching().open("v", 1).events("v", &dropped).finds("watch-gap");
}

#[test]
fn a_bookmark_that_is_not_true_is_caught() {
    let life = life();
    watching().open("w", 1).events("w", &life).open("v", 1).bookmark("v", 4).finds("watch-lost");
    watching().open("v", 1).bookmark("v", 4).events("v", &life[1..2]).finds("watch-disorder");
    watching().open("v", 1).bookmark("v", 4).events("v", &life[2..3]).finds("watch-split");
}

#[test]
fn disorder_duplicates_and_splits_are_caught() {
    let life = life();
    watching().open("w", 1).events("w", &life[1..2]).events("w", &life[..1]).finds("watch-disorder");
    watching().open("w", 1).events("w", &life[..2]).events("w", &life[1..3]).finds("watch-duplicate");
    let other = KeyEvent { key: "k/b".into(), ..life[0].clone() };
    watching().open("w", 1).events("w", &[life[0].clone(), other.clone()]).holds();
    watching().open("w", 1).events("w", &life[..1]).events("w", &[other]).finds("watch-split");
}

#[test]
fn what_was_not_asked_for_is_caught() {
    let life = life();
    watching().open("w", 3).events("w", &life[..1]).finds("watch-unasked");
    let other = KeyEvent { key: "j".into(), ..life[0].clone() };
    watching().open("w", 1).events("w", &[other]).finds("watch-unasked");
}

#[test]
fn watchers_agree() {
    let life = life();
    let other = KeyEvent { value: Some("x".into()), ..life[0].clone() };
    watching().open("w", 1).events("w", &life[..1]).open("v", 1).events("v", &[other]).finds("watch-disagreement");
}

#[test]
fn previous_values_are_right() {
    for (index, prev) in [
        (1, None),
        (2, Some(PreviousValue { value: "2".into(), mod_revision: 2 })),
        (2, Some(PreviousValue { value: "x".into(), mod_revision: 3 })),
        (4, Some(PreviousValue { value: "4".into(), mod_revision: 4 })),
    ] {
        let mut life = life();
        life[index].prev = prev;
        watching().open("w", 1).events("w", &life).finds("watch-previous");
    }
}

#[test]
fn acknowledged_writes_are_told() {
    let write = |value, revision| {
        let answer = Answer { revision: Some(revision), ..Answer::default() };
        ok(0, 0, 1, Action::Write { key: "k/a".into(), value }, answer)
    };
    let judge = |value, revision| {
        let mut history = history(vec![write(value, revision)]);
        history.watches = watching().open("w", 1).events("w", &life()).bookmark("w", 8).0;
        check(&history).outcome
    };
    assert_eq!(judge(3, 3), Judgement::Holds);
    assert_eq!(judge(7, 3), Judgement::Violated);
    assert_eq!(judge(7, 7), Judgement::Violated);
    assert_eq!(judge(9, 9), Judgement::Holds);
}
