//! Whether a leader is still in touch with its followers.

use std::time::Duration;

use openraft::{Instant as _, RaftMetrics};

use crate::types::{MemberId, TypeConfig};

/// Who leads, as far as `own` can tell. openraft's leader goes on when its followers are silent; here it counts as no leader
/// after `silence_max`, so that clients turn to others (etcd's check-quorum).
pub(crate) fn leader_in_touch(
    metrics: &RaftMetrics<TypeConfig>,
    own: MemberId,
    silence_max: Duration,
) -> Option<MemberId> {
    let leader = metrics.current_leader?;
    let is_alone = metrics.membership_config.membership().voter_ids().all(|voter| voter == own);
    if leader != own || is_alone {
        return Some(leader);
    }
    // Nobody has answered a leader that has just been elected.
    let is_silent = metrics.last_quorum_acked.as_ref().is_some_and(|acked| acked.elapsed() > silence_max);
    (!is_silent).then_some(leader)
}
