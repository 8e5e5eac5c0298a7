//! ClusterIPs and node ports: claimed in the store, in the same transaction as the Service that holds them.
//!
//! Each number has a key of its own (`.../xebec.io/serviceclaims/...`); the transaction that stores the Service checks
//! that the keys of its numbers are free. Two API servers therefore cannot hand out the same number, and a number is
//! free again exactly when its Service no longer holds it. Upstream keeps one bitmap per range instead
//! (`/registry/ranges/serviceips`) and repairs it by a loop.

mod claims;

pub use claims::Claims;
