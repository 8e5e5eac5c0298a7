//! What clients did and saw.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use xebec_proto::mvccpb::{Event, KeyValue};

/// What a client asked for.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of etcd's requests")]
pub enum Ask {
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    Delete {
        key: String,
        range_end: String,
    },
    /// Writes `value` to `key` if its last modification is `expected`, and reads the key otherwise.
    CompareAndSet {
        key: String,
        expected: i64,
        value: String,
    },
    /// Puts `value` to all of `keys` in one transaction.
    PutAll {
        keys: Vec<String>,
        value: String,
    },
    Range {
        key: String,
        range_end: String,
        serializable: bool,
        revision: i64,
    },
    Compact {
        revision: i64,
    },
    Grant {
        id: i64,
        ttl_seconds: i64,
    },
    KeepAlive {
        id: i64,
    },
    Revoke {
        id: i64,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of etcd's responses")]
pub enum Answer {
    Put {
        revision: i64,
        prev: Option<KeyValue>,
    },
    Delete {
        revision: i64,
        deleted: i64,
        prev: Vec<KeyValue>,
    },
    CompareAndSet {
        revision: i64,
        succeeded: bool,
        seen: Vec<KeyValue>,
    },
    PutAll {
        revision: i64,
        succeeded: bool,
    },
    Range {
        revision: i64,
        kvs: Vec<KeyValue>,
    },
    Compact,
    Grant {
        ttl_seconds: i64,
    },
    /// A TTL of 0: no such lease.
    KeepAlive {
        ttl_seconds: i64,
    },
    Revoke {
        revision: i64,
    },
    /// It surely did not happen.
    Refused(String),
    /// It may have happened, or may yet happen.
    Unknown(String),
}

/// One request of a client.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// Which member.
    pub member: usize,
    /// Which life of that member it began in.
    pub boot: u64,
    /// What.
    pub ask: Ask,
    /// Before it was sent. Ticks order everything that happened.
    pub began: u64,
    /// After the answer, in simulated milliseconds and ticks.
    pub ended: u64,
    /// When it began, in simulated milliseconds.
    pub began_millis: u64,
    /// When it ended.
    pub ended_millis: u64,
    /// The answer.
    pub answer: Answer,
}

/// What a watcher received, in order.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A stream began at this revision (0: the present, which the header names).
    Started { from: i64, header: i64 },
    /// One response's events.
    Events(Vec<Event>),
    /// "Everything up to here was sent".
    Progress(i64),
    /// The watch was cancelled: what it needed is compacted up to this.
    Compacted(i64),
    /// The stream broke.
    Broken,
}

/// A watcher's record.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The watched prefix.
    pub prefix: String,
    /// What came.
    pub seen: Vec<Seen>,
    /// Everything up to here was received, as far as the watcher can know.
    pub reached: i64,
}

/// What all clients recorded. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct History {
    ticks: Arc<AtomicU64>,
    operations: Arc<Mutex<Vec<Operation>>>,
    watchers: Arc<Mutex<Vec<Watched>>>,
}

impl History {
    /// The next point in the order of everything.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a finished operation.
    pub fn add(&self, operation: Operation) {
        self.operations.lock().push(operation);
    }

    /// Operations so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.operations.lock().len()
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.operations.lock().clone()
    }

    /// A new watcher's number.
    #[must_use]
    pub fn add_watcher(&self, prefix: &str) -> usize {
        let mut watchers = self.watchers.lock();
        watchers.push(Watched { prefix: prefix.to_owned(), ..Watched::default() });
        watchers.len() - 1
    }

    /// Notes what a watcher saw, and how far it is then.
    pub fn saw(&self, watcher: usize, seen: Seen, reached: i64) {
        let mut watchers = self.watchers.lock();
        watchers[watcher].seen.push(seen);
        watchers[watcher].reached = watchers[watcher].reached.max(reached);
    }

    /// All watchers.
    #[must_use]
    pub fn watchers(&self) -> Vec<Watched> {
        self.watchers.lock().clone()
    }
}
