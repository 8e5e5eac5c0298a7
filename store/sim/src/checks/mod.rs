//! What must hold, whatever happens.

pub mod leases;
pub mod operations;
pub mod raft;
pub mod space;
pub mod truth;
pub mod watches;

pub use raft::RaftChecks;
pub use truth::Truth;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub check: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// A violation of `check`.
    pub fn new(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, detail: detail.into() }
    }
}
