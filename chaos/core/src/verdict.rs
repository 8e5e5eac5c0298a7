//! What a checker answers.

mod timeline;

pub use timeline::{Bar, Timeline};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::Operation;

/// Violations that one verdict carries; it counts the others.
pub const VIOLATIONS_MAX: usize = 10;

/// A checker's judgement on a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The checker.
    pub checker: String,
    /// Whether the history may have happened.
    pub outcome: Judgement,
    /// What was looked at, in numbers and words.
    pub summary: String,
    /// The first [`VIOLATIONS_MAX`], worst first.
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub violations_total: usize,
}

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// Everything looked at is allowed.
    Holds,
    /// There was nothing to look at.
    Empty,
    /// The search gave up at a bound: nothing is known. Never counts as a pass.
    Undecided,
    /// Something forbidden was seen.
    Violated,
}

/// Something forbidden, with what it takes to see that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its name.
    pub anomaly: String,
    /// Why it is forbidden, for a person.
    pub explanation: String,
    /// The operations that suffice.
    pub timeline: Timeline,
}

impl Violation {
    /// A violation that these operations show; the last of them is the one to blame. There is at least one.
    pub(crate) fn of(anomaly: &str, explanation: String, operations: &[&Operation]) -> Self {
        let last = operations.len() - 1;
        let bars = operations.iter().enumerate().map(|(at, operation)| operation.bar(at == last)).collect();
        Self { anomaly: anomaly.to_owned(), explanation, timeline: Timeline::new(bars) }
    }
}

impl Verdict {
    /// A verdict out of the violations a checker found; empty if it `looked_at` nothing.
    pub fn new(checker: &str, looked_at: usize, summary: String, mut violations: Vec<Violation>) -> Self {
        let violations_total = violations.len();
        violations.truncate(VIOLATIONS_MAX);
        let outcome = match (violations_total, looked_at) {
            (0, 0) => Judgement::Empty,
            (0, _) => Judgement::Holds,
            _ => Judgement::Violated,
        };
        Self { checker: checker.to_owned(), outcome, summary, violations, violations_total }
    }

    /// Whether a run with this verdict may be called good.
    pub fn passes(&self) -> bool {
        matches!(self.outcome, Judgement::Holds | Judgement::Empty)
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Holds => "holds",
            Self::Empty => "empty",
            Self::Undecided => "undecided",
            Self::Violated => "VIOLATED",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<16} {:<10} {}", self.checker, self.outcome, self.summary)?;
        for violation in &self.violations {
            write!(out, "\n\n{violation}")?;
        }
        let hidden = self.violations_total - self.violations.len();
        if hidden > 0 { write!(out, "\n\n... and {hidden} more") } else { Ok(()) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.anomaly, self.explanation)?;
        write!(out, "{}", self.timeline)
    }
}
