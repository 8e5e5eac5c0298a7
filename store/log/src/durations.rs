//! How long something takes, counted by anybody at any time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counts of durations up to bounds that double, as etcd's histograms of disks and peers have them.
#[derive(Debug)]
pub struct Durations {
    first_bound: Duration,
    buckets: Vec<AtomicU64>,
    count: AtomicU64,
    micros: AtomicU64,
}

/// What was counted up to some moment.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationCounts {
    /// Upper bounds in seconds, and how many lie below each but above the one before.
    pub buckets: Vec<(f64, u64)>,
    /// All, those above the last bound included.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum_seconds: f64,
}

impl Durations {
    /// Of disks: from 1 ms to 8 s (etcd `server/storage/wal/metrics.go`).
    #[must_use]
    pub fn of_disk() -> Self {
        Self::doubling(Duration::from_millis(1), 14)
    }

    /// Of round trips between members: from 0.1 ms to 3.3 s (etcd `server/etcdserver/api/rafthttp/metrics.go`).
    #[must_use]
    pub fn of_round_trips() -> Self {
        Self::doubling(Duration::from_micros(100), 16)
    }

    fn doubling(first_bound: Duration, bounds: usize) -> Self {
        let buckets = (0..bounds).map(|_| AtomicU64::new(0)).collect();
        Self { first_bound, buckets, count: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let bounds = std::iter::successors(Some(self.first_bound), |bound| Some(*bound * 2));
        if let Some((bucket, _)) = self.buckets.iter().zip(bounds).find(|(_, bound)| took <= *bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> DurationCounts {
        let bounds = std::iter::successors(Some(self.first_bound), |bound| Some(*bound * 2));
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        DurationCounts {
            buckets: bounds.map(|bound| bound.as_secs_f64()).zip(buckets).collect(),
            count: self.count.load(Ordering::Relaxed),
            sum_seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let durations = Durations::of_disk();
        for millis in [1, 2, 3, 20_000] {
            durations.observe(Duration::from_millis(millis));
        }
        let counts = durations.counts();
        assert_eq!(counts.buckets.len(), 14);
        assert_eq!(counts.buckets[..3], [(0.001, 1), (0.002, 1), (0.004, 1)]);
        assert_eq!((counts.count, counts.sum_seconds), (4, 20.006));
        assert_eq!(counts.buckets.iter().map(|(_, count)| count).sum::<u64>(), 3);
        assert!((counts.buckets[13].0 - 8.192).abs() < 1e-9);
    }
}
