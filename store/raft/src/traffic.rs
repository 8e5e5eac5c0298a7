//! What this member and each of the others say to each other, counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use xebec_store_log::Durations;

use crate::types::MemberId;

/// Counts of one other member. Bytes are those of Raft's messages, without what gRPC adds; the files of snapshots are not
/// among them.
#[derive(Debug)]
pub struct PeerCounts {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    heartbeats_failed: AtomicU64,
    round_trips: Durations,
}

impl Default for PeerCounts {
    fn default() -> Self {
        Self {
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            heartbeats_failed: AtomicU64::new(0),
            round_trips: Durations::of_round_trips(),
        }
    }
}

impl PeerCounts {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn heartbeat_failed(&self) {
        self.heartbeats_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes sent to it.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes received from it.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Heartbeats that it did not answer.
    #[must_use]
    pub fn heartbeats_failed(&self) -> u64 {
        self.heartbeats_failed.load(Ordering::Relaxed)
    }

    /// How long its answers to heartbeats took.
    #[must_use]
    pub fn round_trips(&self) -> &Durations {
        &self.round_trips
    }
}

/// Counts by member.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<BTreeMap<MemberId, Arc<PeerCounts>>>);

impl Traffic {
    /// Another member's counts.
    pub fn with(&self, id: MemberId) -> Arc<PeerCounts> {
        self.0.lock().entry(id).or_default().clone()
    }

    /// All others' that were met since the start.
    pub fn all(&self) -> Vec<(MemberId, Arc<PeerCounts>)> {
        self.0.lock().iter().map(|(id, counts)| (*id, counts.clone())).collect()
    }
}
