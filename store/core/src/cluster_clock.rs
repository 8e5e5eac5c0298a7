use crate::ClusterTime;

/// The longest step the clock takes between two readings. A leader that was stopped for longer (a paused process, a
/// stalled disk, a suspended machine) could not have received keep-alives, so that time does not count against leases
/// (etcd issue 15247). Read the clock more often than this, or leases live longer than they were granted.
pub const CLOCK_STEP_MILLIS_MAX: u64 = 1_000;

/// The leader's hand on [`ClusterTime`]: continues from the last replicated stamp, by monotonic readings that the
/// caller takes.
#[derive(Clone, Debug)]
pub struct ClusterClock {
    time: ClusterTime,
    last_reading_millis: u64,
}

impl ClusterClock {
    /// Continues from `stamp`, the view's [`cluster_time`](crate::ReadView::cluster_time), at the monotonic reading
    /// `reading_millis` (any origin).
    pub fn resume(stamp: ClusterTime, reading_millis: u64) -> ClusterClock {
        ClusterClock { time: stamp, last_reading_millis: reading_millis }
    }

    /// Advances to the monotonic reading `reading_millis` and says the time.
    pub fn advance(&mut self, reading_millis: u64) -> ClusterTime {
        let step = reading_millis.saturating_sub(self.last_reading_millis).min(CLOCK_STEP_MILLIS_MAX);
        self.last_reading_millis = self.last_reading_millis.max(reading_millis);
        self.time = self.time.plus_millis(step);
        self.time
    }

    /// The time at the last reading.
    pub fn time(&self) -> ClusterTime {
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_as_one_step() {
        let mut clock = ClusterClock::resume(ClusterTime(5_000), 100);
        assert_eq!(clock.advance(350), ClusterTime(5_250));
        assert_eq!(clock.advance(60_350), ClusterTime(6_250));
        assert_eq!(clock.advance(60_300), ClusterTime(6_250), "a reading behind the last changes nothing");
        assert_eq!(clock.advance(60_400), ClusterTime(6_300));
    }
}
