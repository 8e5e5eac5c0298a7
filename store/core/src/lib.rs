//! The store's decisions, without the store: etcd v3's multi-version semantics as pure functions.
//!
//! Nothing here knows a clock, a disk, a network or a thread. A [`Command`] that Raft has committed is evaluated by
//! [`apply`] over a [`ReadView`]; the [`Applied`] that comes out says what to answer, what to write and which events
//! watchers get. Time enters only inside a command, as [`ClusterTime`].
//!
//! - Requests and answers: [`Command`], [`Response`], [`RequestError`] (one variant per etcd error), [`validate`].
//! - Evaluation: [`apply`], [`apply_all`], [`evaluate_range`], [`Overlay`].
//! - Watch: [`EventLog`] (shared, bounded, in memory) and [`WatchCursor`] (one per watcher).
//! - Authentication and authorization: [`auth`].
//! - Leases on the leader: [`LeaseTable`], [`ClusterClock`].
//! - [`MemoryStore`] is a whole keyspace in memory, for tests and tools.

mod apply;
pub mod auth;
mod byte_string;
mod cluster_clock;
mod command;
mod error;
mod event_log;
mod key_range;
mod key_value;
mod lease_table;
mod memory;
mod nesting;
mod overlay;
mod position;
mod range;
mod response;
mod spans;
mod txn;
pub mod validate;
mod view;
mod watch;
mod write;

pub use apply::{Applied, apply, apply_all, evaluate_read_only_txn};
pub use cluster_clock::{CLOCK_STEP_MILLIS_MAX, ClusterClock};
pub use command::{
    Command, Compare, CompareOperator, CompareTarget, DeleteRange, LeaseCheckpoint, LeaseDeadline, LeaseGrant,
    LeaseRevoke, Op, Put, Range, SortOrder, SortTarget, Txn,
};
pub use error::{RequestError, ViewError};
pub use event_log::{EventLog, EventLogOptions, EventTotals, RevisionEvents};
pub use key_range::KeyRange;
pub use key_value::{Event, EventKind, KeyValue};
pub use lease_table::{
    CHECKPOINT_BATCH_LEASES_MAX, EXPIRY_BATCH_LEASES_MAX, KeepAlive, LeaseTable, PROMOTION_EXTENSION_MILLIS_MAX,
};
pub use memory::MemoryStore;
pub use overlay::Overlay;
pub use position::{ClusterTime, LeaseId, LogPosition, Revision};
pub use range::{evaluate_range, evaluate_range_within};
pub use response::{
    AlarmResponse, CompactResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, OpResponse,
    PutResponse, RangeResponse, Response, TxnResponse,
};
pub use view::{Alarm, AlarmKind, Lease, ReadView, Visit};
pub use watch::{Delivery, WatchCursor, WatchSpec, WatchStep};
pub use write::Write;
