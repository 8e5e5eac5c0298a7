//! A disk that hangs, or that the keyspace waits for because it is full: the member lets others lead for as long as it lasts.
//!
//! A leader whose fsync hangs would go on to send heartbeats, and could even commit by the others' disks; but it answers
//! nobody that needs its own, and holds up whoever waits for it (etcd-io/etcd issue 15247). The log's writer shows how
//! long it has been at one write. Beyond the bound a leader hands over to the voter with the longest log that answers,
//! and the member does not stand for election until the disk is back. Should the hand-over get lost, the others elect by
//! themselves: openraft sends no heartbeats while it hands over.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::member::Member;

/// One write or fsync of the log that takes longer than this many election timeouts is a stall.
const STALL_ELECTION_TIMEOUTS: u32 = 5;
/// How often is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Member {
    /// Watches the log's writer.
    pub(crate) async fn yield_when_stalled(self) {
        let bound = self.election_timeout() * STALL_ELECTION_TIMEOUTS;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stalled = false;
        loop {
            looks.tick().await;
            let busy_for = self.machine().log.busy_for();
            let lacks_room_for = self.machine().waiting.lacks_room_for();
            let is_late = busy_for > bound || lacks_room_for.is_some_and(|duration| duration > bound);
            let was_stalled = std::mem::replace(&mut is_stalled, is_late);
            if is_stalled != was_stalled {
                self.raft().runtime_config().elect(!is_stalled);
                if is_stalled {
                    tracing::error!(?busy_for, ?lacks_room_for, "a disk hangs or is full: others shall lead");
                } else {
                    tracing::info!("the disks are back");
                }
            }
            if is_stalled && self.leads() {
                self.step_aside().await;
            }
        }
    }

    async fn step_aside(&self) {
        let roster = self.roster();
        let Some(target) = self.situation(&roster).successor() else {
            tracing::warn!("nobody else can lead");
            return;
        };
        if let Err(error) = self.hand_over(target).await {
            tracing::warn!(%error, "leadership was not handed over");
        }
    }
}
