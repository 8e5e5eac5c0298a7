//! Flags of what a member does for itself.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::duration;
use crate::upkeep::Compaction;

/// etcd's flags for upkeep (etcd `server/embed/config.go`).
#[derive(Debug, Clone, Args)]
pub struct UpkeepFlags {
    /// How --auto-compaction-retention is meant: a time, or a number of revisions.
    #[arg(long, default_value = "periodic", value_parser = ["periodic", "revision"], env = "ETCD_AUTO_COMPACTION_MODE")]
    pub auto_compaction_mode: String,
    /// How much history the leader keeps when it compacts by itself: hours or a duration (5m), or revisions; 0 turns
    /// that off.
    #[arg(long, default_value = "0", value_parser = retention, env = "ETCD_AUTO_COMPACTION_RETENTION")]
    pub auto_compaction_retention: Retention,
    /// Reads all living data through at start, and refuses to serve if it is not what was written.
    #[arg(long, alias = "experimental-initial-corrupt-check", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", env = "ETCD_INITIAL_CORRUPT_CHECK")]
    pub initial_corrupt_check: bool,
    /// Time between two passes that read all living data through (1h); 0 for none. Digests of the data are kept with every
    /// write and compared between members every few seconds in any case.
    #[arg(long, alias = "experimental-corrupt-check-time", default_value = "0s", value_parser = duration::parse, env = "ETCD_CORRUPT_CHECK_TIME")]
    pub corrupt_check_time: Duration,
}

/// `--auto-compaction-retention` before the mode is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Hours, or revisions.
    Number(u32),
    /// A duration.
    Time(Duration),
}

impl UpkeepFlags {
    pub(crate) fn compaction(&self) -> Option<Compaction> {
        const HOUR: Duration = Duration::from_secs(3600);
        match (self.auto_compaction_mode.as_str(), self.auto_compaction_retention) {
            (_, Retention::Number(0) | Retention::Time(Duration::ZERO)) => None,
            ("revision", Retention::Number(revisions)) => Some(Compaction::Revisions(i64::from(revisions))),
            // As in etcd, where a duration is a number of nanoseconds.
            ("revision", Retention::Time(time)) => {
                Some(Compaction::Revisions(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
            }
            (_, Retention::Number(hours)) => Some(Compaction::Periodic(HOUR * hours)),
            (_, Retention::Time(time)) => Some(Compaction::Periodic(time)),
        }
    }
}

fn retention(text: &str) -> Result<Retention, String> {
    text.parse().map(Retention::Number).or_else(|_| duration::parse(text).map(Retention::Time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_hours_a_time_or_revisions() {
        let flags = |mode: &str, text: &str| UpkeepFlags {
            auto_compaction_mode: mode.to_owned(),
            auto_compaction_retention: retention(text).unwrap(),
            initial_corrupt_check: false,
            corrupt_check_time: Duration::ZERO,
        };
        assert_eq!(flags("periodic", "0").compaction(), None);
        assert_eq!(flags("periodic", "2").compaction(), Some(Compaction::Periodic(Duration::from_secs(7200))));
        assert_eq!(flags("periodic", "5m").compaction(), Some(Compaction::Periodic(Duration::from_secs(300))));
        assert_eq!(flags("revision", "1000").compaction(), Some(Compaction::Revisions(1000)));
    }
}
