//! Exponential back-off of restarts and image pulls, with upstream's constants (`pkg/kubelet/kubelet.go`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// Delay after the first failure.
pub const DELAY_FIRST: SignedDuration = SignedDuration::from_secs(10);
/// Longest delay.
pub const DELAY_MAX: SignedDuration = SignedDuration::from_secs(300);
/// A key without a failure for this long starts anew.
pub const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: SignedDuration,
    updated_at: Timestamp,
}

/// Delays by key. Its size is bounded by the keys its owner uses: the containers and images of one pod.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    entries: BTreeMap<String, Entry>,
}

impl Backoff {
    /// Until when `key` has to wait, if `event` (the end of its last run) was so recent; the delay comes with it.
    pub fn wait(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.entries.get(key)?;
        if event.duration_since(entry.updated_at) > RESET_AFTER {
            return None;
        }
        let until = event.saturating_add(entry.delay).unwrap_or(Timestamp::MAX);
        (now < until).then_some((until, entry.delay))
    }

    /// Notes that `key` is tried again after a failure: the next one waits twice as long.
    pub fn next(&mut self, key: &str, now: Timestamp) {
        let entry = self
            .entries
            .entry(key.to_owned())
            .and_modify(|entry| {
                entry.delay = if now.duration_since(entry.updated_at) > RESET_AFTER {
                    DELAY_FIRST
                } else {
                    (entry.delay * 2).min(DELAY_MAX)
                };
            })
            .or_insert(Entry { delay: DELAY_FIRST, updated_at: now });
        entry.updated_at = now;
    }

    /// The failure time last noted for `key`.
    pub fn last(&self, key: &str) -> Option<Timestamp> {
        self.entries.get(key).map(|entry| entry.updated_at)
    }

    /// Forgets `key`.
    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn delays_double_up_to_five_minutes_and_reset_after_ten_quiet_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait("a", at(0), at(0)), None, "the first restart is immediate");
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next("a", at(now));
            let (until, delay) = backoff.wait("a", at(now), at(now)).unwrap();
            assert_eq!((until, delay.as_secs()), (at(now + expected), expected));
            assert_eq!(backoff.wait("a", at(now), at(now + expected)), None);
            now += expected;
        }
        backoff.next("a", at(now + 601));
        assert_eq!(backoff.wait("a", at(now + 601), at(now + 601)).unwrap().1, DELAY_FIRST);
        assert_eq!(backoff.wait("b", at(now), at(now)), None, "keys are independent");
    }
}
