//! What keeps log and keyspace short.

use std::time::Duration;

use xebec_store_disk::CompactionStep;

use crate::{blocking::blocking, member::Member, room::disk_error, types::TypeConfig};

/// How long making the keyspace durable may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);

impl Member {
    /// Makes the keyspace durable and purges the log, when the log has grown.
    pub(crate) async fn shorten_log(self) {
        loop {
            self.machine().log_grown.notified().await;
            let applied = *self.feed().applied().borrow();
            if self.raft().trigger().snapshot().await.is_err() {
                return;
            }
            let covered = |metrics: &openraft::RaftMetrics<TypeConfig>| {
                metrics.snapshot.is_some_and(|snapshot| snapshot.index >= applied)
            };
            let waited = self.raft().wait(Some(SNAPSHOT_TIMEOUT)).metrics(covered, "a snapshot").await;
            match (waited, self.machine().log.purgeable(self.machine().retention.log_kept_bytes)) {
                (Ok(_), Some(upto)) => {
                    if self.raft().trigger().purge_log(upto.min(applied)).await.is_err() {
                        return;
                    }
                }
                (Ok(_), None) => {}
                (Err(error), _) => tracing::warn!(%error, "the log could not be shortened"),
            }
        }
    }

    /// Makes the keyspace durable and shortens the log soon, for the space that gives.
    pub fn shorten_log_soon(&self) {
        self.machine().log_grown.notify_one();
    }

    /// Removes old versions after compactions, in steps.
    pub(crate) async fn clean_keyspace(self) {
        loop {
            let attempt = || {
                let machine = self.machine().clone();
                async move {
                    let step = move || {
                        machine.waiting.admit()?;
                        machine.keyspace.compact_step().map_err(disk_error)
                    };
                    blocking(step).await?
                }
            };
            match self.machine().waiting.until_room(attempt).await {
                Ok(CompactionStep::More { .. }) => tokio::task::yield_now().await,
                Ok(CompactionStep::Done) => self.machine().compacted.notified().await,
                Err(error) => {
                    tracing::error!(%error, "old versions cannot be removed");
                    self.machine().compacted.notified().await;
                }
            }
        }
    }
}
