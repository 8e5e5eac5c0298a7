//! The lines of a history file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, Answer, Facts};

/// Version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`].
    pub xebec_history: u32,
    /// From which schedule and workloads were derived.
    #[serde(default)]
    pub seed: u64,
    /// The command that repeats the run.
    #[serde(default)]
    pub command: String,
    /// When time 0 was, RFC 3339.
    #[serde(default)]
    pub started: String,
    /// What was tested, in words.
    #[serde(default)]
    pub system: String,
    /// Where it ran: processors, memory, kernel.
    #[serde(default)]
    pub machine: String,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            xebec_history: FORMAT_VERSION,
            seed: 0,
            command: String::new(),
            started: String::new(),
            system: String::new(),
            machine: String::new(),
        }
    }
}

/// Any line after the first. Times are nanoseconds since the start of the run on one monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A client sends a request; the time is taken before.
    Invoke {
        /// Nanoseconds.
        time: u64,
        /// The client; it has one request at a time.
        process: u32,
        /// What it asks.
        op: Action,
    },
    /// It was answered; the time is taken after.
    Ok {
        /// Nanoseconds.
        time: u64,
        /// The client.
        process: u32,
        /// What it was told.
        #[serde(default)]
        result: Answer,
    },
    /// It certainly did not happen.
    Fail {
        /// Nanoseconds.
        time: u64,
        /// The client.
        process: u32,
        /// Why.
        #[serde(default)]
        error: String,
    },
    /// Nobody knows whether it happened, or will still happen.
    Info {
        /// Nanoseconds.
        time: u64,
        /// The client.
        process: u32,
        /// Why.
        #[serde(default)]
        error: String,
    },
    /// Something was broken or healed.
    Fault(Fault),
    /// Somebody observed who leads the store.
    Leader(Leadership),
    /// Something came out of a watch.
    Watch(WatchMessage),
    /// The content of a store or a cache when everything was quiet at the end.
    Final {
        /// Nanoseconds.
        time: u64,
        /// `store` for the store itself, any other name for a cache that must equal it.
        source: String,
        /// Object to resourceVersion.
        objects: BTreeMap<String, u64>,
        /// What the objects say, where that is told.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: BTreeMap<String, Facts>,
    },
    /// How long something took.
    Measure(Measure),
}

/// A length of time that no request or watch shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Nanoseconds: when it was over.
    pub time: u64,
    /// What, like `catch-up`.
    pub name: String,
    /// The fault that it belongs to.
    pub fault: u64,
    /// Nanoseconds.
    pub took: u64,
    /// Where, in words.
    #[serde(default)]
    pub detail: String,
}

/// A fault's begin or end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Nanoseconds.
    pub time: u64,
    /// Pairs begin and end.
    pub id: u64,
    /// Kind, as in `--faults`.
    pub name: String,
    /// Which.
    pub phase: FaultPhase,
    /// Where and how, in words.
    #[serde(default)]
    pub detail: String,
}

/// Begin or end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPhase {
    /// From now on it is broken.
    Begin,
    /// From now on it is healed.
    End,
}

/// An observation of the store's leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// Nanoseconds.
    pub time: u64,
    /// Who said so.
    pub observer: String,
    /// The leader it named; absent for "none".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Raft term.
    #[serde(default)]
    pub term: u64,
}

/// One message of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchMessage {
    /// Nanoseconds.
    pub time: u64,
    /// The watcher; a resumed one keeps its name.
    pub watcher: String,
    /// What happened.
    #[serde(flatten)]
    pub step: WatchStep,
}

/// What a watcher saw; the name in the field `step` is its name in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum WatchStep {
    /// The watch was asked for: all keys with this prefix from this revision on (inclusive).
    Open {
        /// Prefix of keys.
        prefix: String,
        /// First revision wanted.
        from: u64,
        /// Whether previous values were asked for.
        #[serde(default)]
        prev_kv: bool,
    },
    /// A response with events.
    Events {
        /// Of the response's header.
        revision: u64,
        /// In the order of the response.
        events: Vec<KeyEvent>,
    },
    /// A bookmark: nothing up to here is missing.
    Progress {
        /// Of the response's header.
        revision: u64,
    },
    /// Cancelled because what it needs is compacted.
    Compacted {
        /// `compact_revision`.
        revision: u64,
    },
    /// It ended for any other reason; its next line is `open`.
    Close {
        /// Why.
        #[serde(default)]
        reason: String,
    },
}

/// A key's change, as a watch tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEvent {
    /// The key.
    pub key: String,
    /// The new value; absent for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Revision of this change.
    pub mod_revision: u64,
    /// Revision of the key's creation; 0 for a deletion. The Kubernetes API tells it of creations only (`ADDED`).
    #[serde(default)]
    pub create_revision: u64,
    /// Changes since its creation; 0 for a deletion.
    #[serde(default)]
    pub version: u64,
    /// What was there before, where it was asked for and there was something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<PreviousValue>,
    /// Of a deletion: the uid of the Kubernetes object that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// `prev_kv` of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousValue {
    /// The value before.
    pub value: String,
    /// Its revision.
    pub mod_revision: u64,
}
