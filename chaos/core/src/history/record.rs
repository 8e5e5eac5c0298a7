//! A history in memory: requests paired with their answers.

use std::collections::BTreeMap;

use super::{Action, Answer, Facts, Fault, Header, Leadership, Measure, WatchMessage};

/// Everything a run recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The first line.
    pub header: Header,
    /// In order of invocation.
    pub operations: Vec<Operation>,
    /// In order of time.
    pub faults: Vec<Fault>,
    /// In order of time.
    pub leaderships: Vec<Leadership>,
    /// Per watcher in order of arrival.
    pub watches: Vec<WatchMessage>,
    /// What was there at the end: source, then object, then resourceVersion.
    pub finals: BTreeMap<String, BTreeMap<String, u64>>,
    /// What the objects said at the end.
    pub facts: BTreeMap<String, Facts>,
    /// In order of time.
    pub measures: Vec<Measure>,
}

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client.
    pub process: u32,
    /// Nanoseconds, taken before the request was sent.
    pub invoked: u64,
    /// Nanoseconds, taken after the answer came or the client gave up; `None` if the run ended before.
    pub completed: Option<u64>,
    /// What was asked.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened between invocation and completion.
    Ok(Answer),
    /// It never happened and never will.
    Failed(String),
    /// It may have happened, or may yet happen, at any time after its invocation.
    Unknown(String),
}

impl Operation {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Whether it certainly never happened.
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    /// Nanoseconds after which it can no longer take effect; `u64::MAX` while that is unknown.
    pub fn effective_until(&self) -> u64 {
        match (&self.outcome, self.completed) {
            (Outcome::Ok(_), Some(time)) => time,
            _ => u64::MAX,
        }
    }
}

impl History {
    /// The last time anything is recorded at, in nanoseconds.
    pub fn end(&self) -> u64 {
        let operations = self.operations.iter().map(|operation| operation.completed.unwrap_or(operation.invoked));
        let faults = self.faults.iter().map(|fault| fault.time);
        let leaders = self.leaderships.iter().map(|leader| leader.time);
        let watches = self.watches.iter().map(|message| message.time);
        operations.chain(faults).chain(leaders).chain(watches).max().unwrap_or(0)
    }
}
