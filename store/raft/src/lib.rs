//! The keyspace, replicated: openraft bound to the log, the keyspace and the peers.

/// Milliseconds between heartbeats, unless told otherwise.
pub const HEARTBEAT_MILLIS_DEFAULT: u64 = 50;
/// Milliseconds of silence after which a follower stands for election, unless told otherwise.
pub const ELECTION_MILLIS_DEFAULT: u64 = 400;
mod types; pub use types::*;
