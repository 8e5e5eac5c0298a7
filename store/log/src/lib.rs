//! The Raft log on disk: sequential segment files of our own.
//!
//! A log is a directory. `state` holds the vote and what was purged (replaced atomically); each `*.seg` file holds
//! consecutive entries. One thread writes: whatever was appended while the last fsync ran goes into the next write and
//! shares one fsync. [`Log::append`] returns as soon as the entries are readable and reports the flush later.
//!
//! A B-tree (RocksDB, bbolt) would write every entry twice and compact what is deleted in order anyway.
//!
//! Invariant: an entry whose callback reported success is found by every later [`Log::open`], or the open fails and
//! names the file and the offset.

mod commit_hint;
mod durations;
mod entry;
mod error;
mod files;
mod log;
mod queue;
mod record;
mod segment;
mod state_file;
mod writer;

pub use durations::{DurationCounts, Durations};
pub use entry::LogEntry;
pub use error::LogError;
pub use files::{File, Files, LocalFiles, Lock, Work, make_dirs};
pub use log::{Log, LogOptions};
