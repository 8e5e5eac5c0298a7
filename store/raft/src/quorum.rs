//! Whether a member is in touch with whom it needs: a leader with its followers, a follower with its leader.

use std::time::Duration;

use openraft::{Instant as _, RaftMetrics};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::types::{MemberId, TypeConfig, Vote};

/// A follower has lost its leader when it has not heard of it for so many election timeouts: by then it has tried to be
/// elected itself, at the latest (etcd's followers wait for one to two). openraft goes on naming the leader while its
/// pre-votes fail.
pub(crate) const SILENT_ELECTION_TIMEOUTS: u32 = 2;

/// Which leader a follower has heard of, and when.
#[derive(Debug)]
pub(crate) struct Heard(Mutex<(Option<MemberId>, Instant)>);

impl Heard {
    pub fn new() -> Self {
        Self(Mutex::new((None, Instant::now())))
    }

    /// Notes that the leader of this vote sends entries, heartbeats or a snapshot.
    pub fn note(&self, vote: &Vote) {
        self.note_at(vote.leader_id.voted_for, Instant::now());
    }

    fn note_at(&self, leader: MemberId, now: Instant) {
        *self.0.lock() = (Some(leader), now);
    }

    /// How long `leader` has been silent. A leader of which nothing was heard yet, such as the one that a restarted member
    /// remembers, has been silent since the last that was.
    fn silent_for(&self, leader: MemberId, now: Instant) -> Duration {
        let mut heard = self.0.lock();
        if heard.0 != Some(leader) && heard.0.is_some() {
            // Elected since; whoever counts the votes is soon heard.
            *heard = (Some(leader), now);
        }
        now.saturating_duration_since(heard.1)
    }
}

/// Who leads, as far as `own` can tell. openraft's leader goes on when its followers are silent; here it counts as no leader
/// after `election_timeout`, so that clients turn to others (etcd's check-quorum). A follower counts its leader as lost
/// after [`SILENT_ELECTION_TIMEOUTS`].
pub(crate) fn leader_in_touch(
    metrics: &RaftMetrics<TypeConfig>,
    own: MemberId,
    election_timeout: Duration,
    heard: &Heard,
) -> Option<MemberId> {
    let leader = metrics.current_leader?;
    if leader != own {
        return (heard.silent_for(leader, Instant::now()) <= election_timeout * SILENT_ELECTION_TIMEOUTS)
            .then_some(leader);
    }
    if metrics.membership_config.membership().voter_ids().all(|voter| voter == own) {
        return Some(leader);
    }
    // Nobody has answered a leader that has just been elected.
    let is_silent = metrics.last_quorum_acked.as_ref().is_some_and(|acked| acked.elapsed() > election_timeout);
    (!is_silent).then_some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_that_was_heard_and_anew_with_a_new_leader() {
        let heard = Heard::new();
        let begun = heard.0.lock().1;
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(heard.silent_for(1, at(3)), Duration::from_secs(3), "remembered, never heard");
        heard.note_at(1, at(3));
        assert_eq!(heard.silent_for(1, at(5)), Duration::from_secs(2));
        assert_eq!(heard.silent_for(2, at(5)), Duration::ZERO, "just elected");
        assert_eq!(heard.silent_for(2, at(6)), Duration::from_secs(1));
    }
}
