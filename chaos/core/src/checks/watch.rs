//! Watches: etcd's guarantees (etcd `website/content/en/docs/v3.5/learning/api_guarantees.md`): ordered, unique, atomic, reliable,
//! resumable, bookmarkable; and right previous values.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    history::{Action, History, KeyEvent, WatchMessage, WatchStep},
    verdict::{Bar, Timeline, Verdict, Violation},
};

/// What all watchers and acknowledged writers together saw: revision and key, to the event.
type Truth<'history> = BTreeMap<(u64, &'history str), Seen<'history>>;

struct Seen<'history> {
    event: &'history KeyEvent,
    message: &'history WatchMessage,
}

/// One watch from its opening to its end.
struct Session<'history> {
    opened: &'history WatchMessage,
    prefix: &'history str,
    from: u64,
    prev_kv: bool,
    events: Vec<(&'history KeyEvent, &'history WatchMessage)>,
    /// Nothing up to here may be missing.
    complete_to: u64,
    last: &'history WatchMessage,
}

/// Whether every watcher's messages keep what etcd promises, against everything that all watchers and writers saw.
pub fn check(history: &History) -> Verdict {
    let mut violations = Vec::new();
    let sessions = sessions(history, &mut violations);
    let truth = truth(&sessions, &mut violations);
    let compacted = history.operations.iter().filter_map(|operation| match operation.action {
        Action::Compact { revision } if !operation.failed() => Some(revision),
        _ => None,
    });
    let compacted = compacted.max().unwrap_or(0);
    for session in &sessions {
        missing(session, &truth, &mut violations);
        versions(session, &mut violations);
        if session.prev_kv {
            previous(session, &truth, compacted, &mut violations);
        }
    }
    unseen_writes(history, &sessions, &truth, &mut violations);
    let events: usize = sessions.iter().map(|session| session.events.len()).sum();
    let watchers: HashSet<_> = history.watches.iter().map(|message| &message.watcher).collect();
    let summary = format!("{} watchers, {} sessions, {events} events", watchers.len(), sessions.len());
    Verdict::new("watch", sessions.len(), summary, violations)
}

/// Cuts each watcher's messages into sessions, and judges their order.
fn sessions<'history>(history: &'history History, violations: &mut Vec<Violation>) -> Vec<Session<'history>> {
    let mut open: HashMap<&str, Session<'_>> = HashMap::new();
    let mut done = Vec::new();
    // How far each watcher was told, by which message.
    let mut told: HashMap<&str, (u64, &WatchMessage)> = HashMap::new();
    for message in &history.watches {
        let name = message.watcher.as_str();
        if let Some(session) = open.get(name) {
            told.insert(name, (session.complete_to, session.last));
        }
        match &message.step {
            WatchStep::Open { prefix, from, prev_kv } => {
                backwards(name, message, *from, &told, violations);
                let (events, complete_to) = (Vec::new(), from.saturating_sub(1));
                let (from, prev_kv) = (*from, *prev_kv);
                let session = Session { opened: message, prefix, from, prev_kv, events, complete_to, last: message };
                done.extend(open.insert(name, session));
            }
            WatchStep::Events { events, .. } => {
                if let Some(session) = open.get_mut(name) {
                    receive(session, events, message, violations);
                }
            }
            WatchStep::Progress { revision } => {
                if let Some(session) = open.get_mut(name) {
                    session.complete_to = session.complete_to.max(*revision);
                    session.last = message;
                }
            }
            WatchStep::Compacted { .. } | WatchStep::Close { .. } => done.extend(open.remove(name)),
        }
    }
    done.extend(open.into_values());
    done.sort_by_key(|session| session.opened.time);
    done
}

/// A watcher that begins anew (a Kubernetes informer lists again) must not see an older state than it had.
fn backwards(
    name: &str,
    message: &WatchMessage,
    from: u64,
    told: &HashMap<&str, (u64, &WatchMessage)>,
    violations: &mut Vec<Violation>,
) {
    let Some((to, last)) = told.get(name).filter(|(to, _)| from <= *to) else { return };
    let explanation = format!("{name} had been told up to {to}, and began again at {from}");
    violations.push(violation("watch-backwards", explanation, &[last, message]));
}

fn receive<'history>(
    session: &mut Session<'history>,
    events: &'history [KeyEvent],
    message: &'history WatchMessage,
    violations: &mut Vec<Violation>,
) {
    let mut last = session.complete_to;
    for (position, event) in events.iter().enumerate() {
        let before = session.events.last().map_or(session.opened, |(_, message)| *message);
        let twice = session.events.iter().rev().take_while(|(seen, _)| seen.mod_revision >= event.mod_revision);
        let twice = twice.into_iter().any(|(seen, _)| seen.mod_revision == event.mod_revision && seen.key == event.key);
        let flaw = if twice {
            Some(("watch-duplicate", "came twice".to_owned()))
        } else if event.mod_revision < session.from {
            Some(("watch-unasked", format!("came to a watch from {}", session.from)))
        } else if !event.key.starts_with(session.prefix) {
            Some(("watch-unasked", format!("came to a watch of {}", session.prefix)))
        } else if event.mod_revision < last {
            Some(("watch-disorder", format!("came after revision {last}")))
        } else if event.mod_revision == session.complete_to && event.mod_revision >= session.from {
            Some(("watch-split", "came apart from the rest of its revision, or after its bookmark".to_owned()))
        } else {
            None
        };
        if let Some((anomaly, how)) = flaw {
            let explanation = format!("{} at revision {} {how}", event.key, event.mod_revision);
            violations.push(violation(anomaly, explanation, &[before, message]));
        }
        if position > 0 || event.mod_revision > last {
            last = last.max(event.mod_revision);
        }
        session.events.push((event, message));
    }
    session.complete_to = last;
    session.last = message;
}

fn truth<'history>(sessions: &[Session<'history>], violations: &mut Vec<Violation>) -> Truth<'history> {
    let mut truth: Truth<'_> = BTreeMap::new();
    for (event, message) in sessions.iter().flat_map(|session| &session.events) {
        let seen = truth.entry((event.mod_revision, &event.key)).or_insert(Seen { event, message });
        let same = seen.event.value == event.value
            && seen.event.version == event.version
            && seen.event.create_revision == event.create_revision;
        if !same {
            let explanation =
                format!("two watchers were told different things of {} at {}", event.key, event.mod_revision);
            violations.push(violation("watch-disagreement", explanation, &[seen.message, message]));
        }
    }
    truth
}

/// What others saw in a session's reach, and it did not.
fn missing(session: &Session<'_>, truth: &Truth<'_>, violations: &mut Vec<Violation>) {
    if session.complete_to < session.from {
        return;
    }
    let got: HashSet<(u64, &str)> = session.events.iter().map(|(event, _)| (event.mod_revision, &*event.key)).collect();
    let due = truth.range((session.from, "")..(session.complete_to + 1, ""));
    for ((revision, key), seen) in due.filter(|((_, key), _)| key.starts_with(session.prefix)) {
        if !got.contains(&(*revision, *key)) {
            let explanation = format!(
                "{} was told of nothing at {key} in revision {revision}, though it was told up to {}",
                session.opened.watcher, session.complete_to
            );
            violations.push(violation("watch-lost", explanation, &[session.opened, seen.message, session.last]));
        }
    }
}

/// A key's versions count up by one from its creation: a gap is an event that nobody was told.
fn versions(session: &Session<'_>, violations: &mut Vec<Violation>) {
    let mut keys: HashMap<&str, (&KeyEvent, &WatchMessage)> = HashMap::new();
    for (event, message) in &session.events {
        let before = keys.insert(&event.key, (event, message));
        let Some((before, earlier)) = before.filter(|(before, _)| before.mod_revision < event.mod_revision) else {
            continue;
        };
        // The Kubernetes API tells no versions.
        if before.version == 0 && event.version == 0 {
            continue;
        }
        let fits = match (&before.value, &event.value) {
            (_, None) => before.value.is_some(),
            (None, Some(_)) => event.version == 1 && event.create_revision == event.mod_revision,
            (Some(_), Some(_)) => {
                event.version == before.version + 1 && event.create_revision == before.create_revision
            }
        };
        if !fits {
            let explanation = format!(
                "between {} (version {}) and {} (version {}) of {} something was not told",
                before.mod_revision, before.version, event.mod_revision, event.version, event.key
            );
            violations.push(violation("watch-gap", explanation, &[earlier, message]));
        }
    }
}

fn previous(session: &Session<'_>, truth: &Truth<'_>, compacted: u64, violations: &mut Vec<Violation>) {
    let mut keys: HashMap<&str, BTreeMap<u64, &KeyEvent>> = HashMap::new();
    for ((revision, key), seen) in truth {
        keys.entry(key).or_default().insert(*revision, seen.event);
    }
    for (event, message) in &session.events {
        let before = keys.get(event.key.as_str()).and_then(|key| key.range(..event.mod_revision).next_back());
        let created = event.value.is_some() && event.version == 1;
        let flaw = match (&event.prev, before) {
            (Some(_), _) if created => Some("came with a previous value though it is a creation".to_owned()),
            (Some(prev), Some((revision, before))) => {
                let wrong = prev.mod_revision < *revision
                    || (prev.mod_revision == *revision && before.value.as_ref() != Some(&prev.value));
                wrong.then(|| {
                    format!("came with the value of {} as previous, not that of {revision}", prev.mod_revision)
                })
            }
            (None, Some((revision, before))) if !created && *revision > compacted && before.value.is_some() => {
                Some(format!("came without the previous value of {revision}"))
            }
            _ => None,
        };
        if let Some(flaw) = flaw {
            let explanation = format!("{} at {} {flaw}", event.key, event.mod_revision);
            violations.push(violation("watch-previous", explanation, &[message]));
        }
    }
}

/// Acknowledged writes in a session's reach that no watcher was told of, or told otherwise.
fn unseen_writes(history: &History, sessions: &[Session<'_>], truth: &Truth<'_>, violations: &mut Vec<Violation>) {
    for operation in &history.operations {
        let Some(revision) = operation.answer().and_then(|answer| answer.revision) else { continue };
        let (key, value) = match &operation.action {
            Action::Write { key, value } => (key, Some(value.to_string())),
            Action::Create { object } | Action::Update { object, .. } => (object, None),
            _ => continue,
        };
        let told = truth.get(&(revision, key.as_str()));
        if told.is_some_and(|seen| seen.event.value.is_some() && (value.is_none() || seen.event.value == value)) {
            continue;
        }
        let session = sessions.iter().find(|session| {
            key.starts_with(session.prefix) && session.from <= revision && revision <= session.complete_to
        });
        let Some(session) = session else { continue };
        let mut bars = vec![operation.bar(false), bar(session.opened, false), bar(session.last, true)];
        bars.extend(told.map(|seen| bar(seen.message, true)));
        let how = if told.is_some() { "otherwise" } else { "not at all" };
        let explanation = format!("the acknowledged write of {key} at revision {revision} was told {how}");
        let timeline = Timeline::new(bars);
        violations.push(Violation { anomaly: "watch-lost-write".to_owned(), explanation, timeline });
    }
}

fn violation(anomaly: &str, explanation: String, messages: &[&WatchMessage]) -> Violation {
    let last = messages.len() - 1;
    let bars = messages.iter().enumerate().map(|(at, message)| bar(message, at == last)).collect();
    Violation { anomaly: anomaly.to_owned(), explanation, timeline: Timeline::new(bars) }
}

fn bar(message: &WatchMessage, guilty: bool) -> Bar {
    let label = match &message.step {
        WatchStep::Open { prefix, from, .. } => format!("watch {prefix} from {from}"),
        WatchStep::Events { events, .. } => {
            let first =
                events.first().map_or_else(String::new, |event| format!("{} @{}", event.key, event.mod_revision));
            format!("{} events, the first {first}", events.len())
        }
        WatchStep::Progress { revision } => format!("bookmark {revision}"),
        WatchStep::Compacted { revision } => format!("compacted to {revision}"),
        WatchStep::Close { reason } => format!("closed: {reason}"),
    };
    Bar { row: message.watcher.clone(), begin: message.time, end: Some(message.time), label, guilty }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
