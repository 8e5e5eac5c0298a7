//! Linearizability of registers with compare-and-set, key by key.
//!
//! After Wing & Gong, "Testing and Verifying Concurrent Objects" (1993), with Lowe's just-in-time linearization and memoised
//! states ("Testing for Linearizability", 2017): a depth-first search walks along a key's calls and returns and takes an
//! operation into the order only when a return demands it. Three facts about registers keep the search narrow: a read that
//! fits the present value can be taken at once; a write whose value only it writes and somebody read must have happened
//! before that reader returned, even if its own outcome is unknown; and an unknown write that nobody saw can be left out.

mod check;
mod register;
mod search;
mod shrink;

pub use check::{Limits, check};
