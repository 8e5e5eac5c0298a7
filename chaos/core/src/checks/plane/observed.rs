//! What all watchers together saw, in order of resourceVersion.

use std::collections::{BTreeMap, HashMap};

use crate::{
    history::{Facts, History, KeyEvent, WatchMessage, WatchStep},
    verdict::Bar,
};

/// One version of an object, as some watcher was told.
pub(super) struct Version<'history> {
    pub(super) object: &'history str,
    pub(super) revision: u64,
    /// `None`: it is deleted as of here.
    pub(super) facts: Option<Facts>,
    event: &'history KeyEvent,
    message: &'history WatchMessage,
}

impl<'history> Version<'history> {
    /// When a watcher was told.
    pub(super) fn time(&self) -> u64 {
        self.message.time
    }

    /// Whether the object was created at this revision.
    pub(super) fn is_creation(&self) -> bool {
        self.event.create_revision == self.revision
    }

    /// The uid of what was deleted, if that was told.
    pub(super) fn deleted_uid(&self) -> Option<&'history str> {
        self.event.uid.as_deref()
    }

    /// It as a moment of a timeline.
    pub(super) fn bar(&self, what: &str) -> Bar {
        let time = self.message.time;
        let label = format!("{} @{} {what}", self.object, self.revision);
        Bar { row: self.message.watcher.clone(), begin: time, end: Some(time), label, guilty: false }
    }
}

/// Everything about objects whose names begin so, each version once, by resourceVersion.
pub(super) fn versions<'history>(history: &'history History, prefix: &str) -> Vec<Version<'history>> {
    let mut found: BTreeMap<(u64, &str), (&KeyEvent, &WatchMessage)> = BTreeMap::new();
    for message in &history.watches {
        let WatchStep::Events { events, .. } = &message.step else { continue };
        for event in events.iter().filter(|event| event.key.starts_with(prefix)) {
            let told = found.entry((event.mod_revision, &event.key)).or_insert((event, message));
            // The earliest to be told is the one who counts.
            if message.time < told.1.time {
                *told = (event, message);
            }
        }
    }
    let version = |((revision, object), (event, message)): ((u64, &'history str), (&'history KeyEvent, _))| {
        let facts = match &event.value {
            None => None,
            Some(value) => Some(Facts::parse(value)?),
        };
        Some(Version { object, revision, facts, event, message })
    };
    found.into_iter().filter_map(version).collect()
}

/// Where some watcher certainly missed nothing.
pub(super) struct Reach<'history> {
    prefix: &'history str,
    from: u64,
    to: u64,
}

/// Every session's reach.
pub(super) fn reaches(history: &History) -> Vec<Reach<'_>> {
    let mut open: HashMap<&str, Reach<'_>> = HashMap::new();
    let mut done = Vec::new();
    for message in &history.watches {
        let name = message.watcher.as_str();
        let to = match &message.step {
            WatchStep::Open { prefix, from, .. } => {
                done.extend(open.insert(name, Reach { prefix, from: *from, to: from.saturating_sub(1) }));
                continue;
            }
            WatchStep::Events { events, .. } => events.last().map_or(0, |event| event.mod_revision),
            WatchStep::Progress { revision } => *revision,
            WatchStep::Compacted { .. } | WatchStep::Close { .. } => 0,
        };
        if let Some(reach) = open.get_mut(name) {
            reach.to = reach.to.max(to);
        }
    }
    done.extend(open.into_values());
    done
}

/// Whether some watcher of `object` saw everything between two versions.
pub(super) fn seen_between(reaches: &[Reach<'_>], object: &str, from: u64, to: u64) -> bool {
    reaches.iter().any(|reach| object.starts_with(reach.prefix) && reach.from <= from && to <= reach.to)
}
