//! The client of the store: etcd v3 gRPC with fail-over among endpoints, compare-and-set transactions, watches, leases.

mod client;
mod commit;
mod epoch;
mod fate;
mod lease;
mod txn;
mod watch;

pub use client::{Store, StoreConfig, prefix_end};
pub use lease::LeaseHold;
pub use txn::{Check, Outcome, Txn};
pub use watch::{StoreEvent, StoreWatch, WatchItem};

/// Failure of a store request, by what the caller may do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No endpoint answered; nothing was changed by this request.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The request may or may not have been committed.
    #[error("the store did not acknowledge the request, which may have been committed: {0}")]
    Ambiguous(String),
    /// The revision asked for has been compacted.
    #[error("the requested revision has been compacted")]
    Compacted,
    /// The request is larger than the store accepts.
    #[error("the request is too large for the store: {0}")]
    TooLarge(String),
    /// The store refused the request for a reason that a retry does not cure.
    #[error("the store refused the request: {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests;
