//! A watcher sees every revision once, in order, whatever the log evicts and however it catches up.
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use xebec_store_core::{
    Delivery, Event, EventKind, EventLog, EventLogOptions, KeyRange, KeyValue, Revision, RevisionEvents, WatchCursor,
    WatchSpec, WatchStep,
};

fn event(key: &str, revision: i64, kind: EventKind) -> Event {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let kv = KeyValue { key: key.clone(), mod_revision: Revision(revision), ..KeyValue::default() };
    let prev_kv = Some(KeyValue { key, mod_revision: Revision(revision - 1), ..KeyValue::default() });
    Event { kind, kv, prev_kv }
}

fn puts(revision: i64, keys: &[&str]) -> Vec<Event> {
    keys.iter().map(|key| event(key, revision, EventKind::Put)).collect()
}

fn spec(start: i64) -> WatchSpec {
    WatchSpec {
        range: KeyRange::all(),
        start_revision: Revision(start),
        no_put: false,
        no_delete: false,
        prev_kv: false,
    }
}

fn log(revisions: usize, current: i64) -> EventLog {
    EventLog::new(EventLogOptions { bytes_max: usize::MAX, revisions_max: revisions }, Revision(current))
}

const LARGE: usize = 1 << 20;

#[test]
fn a_watch_from_now_is_synced_at_once_and_one_from_the_future_says_nothing_before_it() {
    let mut log = log(10, 5);
    let mut now = WatchCursor::new(spec(0), Revision(5));
    let mut future = WatchCursor::new(spec(7), Revision(5));
    assert_eq!(now.poll(&log, Revision(0), LARGE), WatchStep::Synced { revision: Revision(5) });
    assert_eq!(future.poll(&log, Revision(0), LARGE), WatchStep::Future);
    log.append_events(Revision(6), puts(6, &["a"]));
    assert!(matches!(now.poll(&log, Revision(0), LARGE), WatchStep::Deliver(_)));
    assert_eq!(future.poll(&log, Revision(0), LARGE), WatchStep::Future);
    log.append_events(Revision(7), puts(7, &["a"]));
    let WatchStep::Deliver(delivery) = future.poll(&log, Revision(0), LARGE) else { panic!() };
    assert_eq!(delivery.events[0].kv.mod_revision, Revision(7));
    assert_eq!(future.poll(&log, Revision(0), LARGE), WatchStep::Synced { revision: Revision(7) });
}

#[test]
fn filters_leave_out_events_and_a_response_without_events_is_not_sent() {
    let mut log = log(10, 1);
    log.append_events(Revision(2), vec![event("a", 2, EventKind::Put)]);
    log.append_events(Revision(3), vec![event("a", 3, EventKind::Delete), event("b", 3, EventKind::Delete)]);
    let narrow = WatchSpec { range: KeyRange::Key(Bytes::from_static(b"b")), prev_kv: true, ..spec(2) };
    let WatchStep::Deliver(delivery) = WatchCursor::new(narrow.clone(), Revision(3)).poll(&log, Revision(0), LARGE)
    else {
        panic!()
    };
    assert_eq!((delivery.events.len(), delivery.revision), (1, Revision(3)));
    assert!(delivery.events[0].prev_kv.is_some());
    let mut deaf = WatchCursor::new(WatchSpec { no_delete: true, start_revision: Revision(1), ..narrow }, Revision(3));
    assert_eq!(deaf.poll(&log, Revision(0), LARGE), WatchStep::CatchUp { from: Revision(1), to: Revision(1) });
    assert_eq!(deaf.catch_up(&[], Revision(1)), None);
    assert_eq!(deaf.poll(&log, Revision(0), LARGE), WatchStep::Synced { revision: Revision(3) });
}

#[test]
fn a_revision_is_never_split_however_small_responses_are_to_be() {
    let mut log = log(10, 1);
    log.append_events(Revision(2), puts(2, &["a", "b", "c"]));
    log.append_events(Revision(3), puts(3, &["d"]));
    let small = 1;
    let mut whole = WatchCursor::new(spec(2), Revision(3));
    let mut sizes = Vec::new();
    while let WatchStep::Deliver(delivery) = whole.poll(&log, Revision(0), small) {
        sizes.push((delivery.events.len(), delivery.revision.0));
    }
    assert_eq!(sizes, vec![(3, 2), (1, 3)]);
}

#[test]
fn history_that_is_compacted_cancels_unless_memory_still_has_it() {
    let mut log = log(2, 1);
    for revision in 2..=6 {
        log.append_events(Revision(revision), puts(revision, &["a"]));
    }
    assert_eq!(log.first_revision(), Revision(5));
    let step = WatchCursor::new(spec(3), Revision(6)).poll(&log, Revision(4), LARGE);
    assert_eq!(step, WatchStep::Compacted { compact_revision: Revision(4) });
    let step = WatchCursor::new(spec(4), Revision(6)).poll(&log, Revision(4), LARGE);
    assert_eq!(step, WatchStep::CatchUp { from: Revision(4), to: Revision(4) });
    let step = WatchCursor::new(spec(5), Revision(6)).poll(&log, Revision(6), LARGE);
    assert_eq!(step, WatchStep::Compacted { compact_revision: Revision(6) }, "a new watch is refused");
    let mut begun = WatchCursor::new(spec(5), Revision(6));
    assert!(matches!(begun.poll(&log, Revision(4), 1), WatchStep::Deliver(_)));
    log.append_events(Revision(7), puts(7, &["a"]));
    assert!(matches!(begun.poll(&log, Revision(7), LARGE), WatchStep::Deliver(_)), "what is in memory is enough");
}

#[test]
fn a_gap_empties_the_log_so_that_watchers_go_to_disk() {
    let mut log = log(10, 1);
    log.append_events(Revision(2), puts(2, &["a"]));
    log.append_events(Revision(9), puts(9, &["a"]));
    assert_eq!(log.first_revision(), Revision(9));
    let step = WatchCursor::new(spec(2), Revision(2)).poll(&log, Revision(0), LARGE);
    assert_eq!(step, WatchStep::CatchUp { from: Revision(2), to: Revision(8) });
}

/// What happens next in a random run.
#[derive(Clone, Debug)]
enum Action {
    Append(u8),
    Poll,
    /// Reads at most so many revisions from disk, if the watcher wants to.
    PollAndReadDisk(i64),
    Reset,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1u8..5).prop_map(Action::Append),
        3 => Just(Action::Poll),
        3 => (1i64..6).prop_map(Action::PollAndReadDisk),
        1 => Just(Action::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_event_is_delivered_once_in_order(
        actions in prop::collection::vec(action(), 1..80),
        start in 0i64..12,
        revisions_max in 1usize..6,
        response_bytes_max in prop_oneof![Just(1usize), Just(300), Just(LARGE)],
        no_delete: bool,
    ) {
        let mut log = log(revisions_max, 1);
        let mut disk: Vec<RevisionEvents> = Vec::new();
        let mut cursor = WatchCursor::new(WatchSpec { no_delete, ..spec(start) }, Revision(1));
        let mut delivered: Vec<Delivery> = Vec::new();
        let mut synced = Revision(0);
        // In the end everything is read, so that nothing can stay behind unnoticed.
        let finish = std::iter::repeat_n(Action::PollAndReadDisk(100), 500);
        for action in actions.into_iter().chain(finish) {
            match action {
                Action::Append(count) => {
                    let revision = log.current_revision().next();
                    let kind = |index| if (revision.0 + index) % 3 == 0 { EventKind::Delete } else { EventKind::Put };
                    let events: Arc<[Event]> =
                        (0..i64::from(count)).map(|index| event(&format!("k{index}"), revision.0, kind(index))).collect();
                    disk.push(RevisionEvents { revision, events: Arc::clone(&events) });
                    log.append_events(revision, events);
                }
                Action::Reset => log.reset(log.current_revision()),
                Action::Poll => {
                    match cursor.poll(&log, Revision(0), response_bytes_max) {
                        WatchStep::Deliver(delivery) => delivered.push(delivery),
                        WatchStep::Synced { revision } => synced = revision,
                        _ => {}
                    }
                }
                Action::PollAndReadDisk(revisions) => {
                    match cursor.poll(&log, Revision(0), response_bytes_max) {
                        WatchStep::Deliver(delivery) => delivered.push(delivery),
                        WatchStep::Synced { revision } => synced = revision,
                        WatchStep::CatchUp { from, to } => {
                            let through = to.min(Revision(from.0 + revisions - 1));
                            let read: Vec<_> =
                                disk.iter().filter(|entry| entry.revision >= from && entry.revision <= through).collect();
                            delivered.extend(cursor.catch_up(read, through));
                        }
                        WatchStep::Future => {}
                        WatchStep::Compacted { .. } => prop_assert!(false, "nothing was compacted"),
                    }
                }
            }
        }
        let first = if start <= 0 { 2 } else { start };
        let expected: Vec<(i64, Bytes)> = disk
            .iter()
            .filter(|entry| entry.revision.0 >= first)
            .flat_map(|entry| entry.events.iter())
            .filter(|event| !(no_delete && event.kind == EventKind::Delete))
            .map(|event| (event.kv.mod_revision.0, event.kv.key.clone()))
            .collect();
        let seen: Vec<(i64, Bytes)> = delivered
            .iter()
            .flat_map(|delivery| &delivery.events)
            .map(|event| (event.kv.mod_revision.0, event.kv.key.clone()))
            .collect();
        prop_assert_eq!(seen, expected);
        if log.current_revision().0 >= start {
            prop_assert_eq!(synced, log.current_revision());
        }
        for pair in delivered.windows(2) {
            let [before, after] = pair else { unreachable!() };
            prop_assert!(!before.events.is_empty());
            let split = before.events.last().unwrap().kv.mod_revision == after.events[0].kv.mod_revision;
            prop_assert!(!split, "a revision was split");
            prop_assert!(before.revision < after.revision);
        }
    }
}
