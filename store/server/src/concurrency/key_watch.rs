//! A watch inside the server, on the member's own events.

use tokio::sync::watch;
use tonic::Status;
use xebec_store_core::{Delivery, KeyRange, ReadView, Revision, WatchCursor, WatchSpec, WatchStep};
use xebec_store_disk::CatchUp;

use crate::{
    context::{Context, blocking},
    status::{self, IntoStatus},
};

/// Bytes of events taken at a time.
const DELIVERY_BYTES_MAX: usize = 256 * 1024;

/// Follows the changes of some keys from a revision on.
pub(super) struct KeyWatch {
    context: Context,
    cursor: WatchCursor,
    revisions: watch::Receiver<Revision>,
}

impl KeyWatch {
    pub fn new(context: &Context, range: KeyRange, start_revision: Revision) -> Self {
        let feed = context.member.feed();
        let revisions = feed.revisions();
        let current = feed.with_events(|events| events.current_revision());
        let spec = WatchSpec { range, start_revision, no_put: false, no_delete: false, prev_kv: false };
        Self { context: context.clone(), cursor: WatchCursor::new(spec, current), revisions }
    }

    /// Waits for the next changes.
    pub async fn next(&mut self) -> Result<Delivery, Status> {
        let stopped = self.context.member.stopped().clone();
        loop {
            self.revisions.mark_unchanged();
            let compacted = self.context.member.keyspace().view().compacted_revision();
            let feed = self.context.member.feed();
            match feed.with_events(|events| self.cursor.poll(events, compacted, DELIVERY_BYTES_MAX)) {
                WatchStep::Deliver(delivery) => return Ok(delivery),
                WatchStep::CatchUp { from, to } => {
                    if let Some(delivery) = self.catch_up(from, to).await? {
                        return Ok(delivery);
                    }
                }
                WatchStep::Compacted { .. } => return Err(Status::out_of_range(status::COMPACTED)),
                WatchStep::Synced { .. } | WatchStep::Future => tokio::select! {
                    changed = self.revisions.changed() => changed.map_err(|_| status::stopped())?,
                    () = stopped.cancelled() => return Err(status::stopped()),
                },
            }
        }
    }

    async fn catch_up(&mut self, from: Revision, to: Revision) -> Result<Option<Delivery>, Status> {
        let range = self.cursor.spec().range.clone();
        let keyspace = self.context.member.keyspace().clone();
        let read =
            blocking(move || keyspace.events(from, to, &range, DELIVERY_BYTES_MAX).map_err(IntoStatus::into_status));
        match read.await? {
            CatchUp::Compacted { .. } => Err(Status::out_of_range(status::COMPACTED)),
            CatchUp::Events { events, through } => Ok(self.cursor.catch_up(&events, through)),
        }
    }
}
