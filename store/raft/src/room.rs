//! A keyspace without room: what is committed waits to be applied until there is space again.
//!
//! RocksDB refuses every write once a flush or a manifest did not fit (a hard error in its `error_handler.cc`), and goes on
//! by itself a few seconds after there is room again. A write it refuses has changed nothing, so it is tried again, and Raft
//! never hears of it. Meanwhile reads are served from what was applied, the server refuses what would grow, and a leader lets
//! another one lead.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use xebec_store_disk::DiskError;

/// How long is waited before the same is tried again, and how often a log line says so.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const REMINDER: Duration = Duration::from_secs(10);
/// With room on the disk for so long RocksDB should have gone on (it looks every 5 s). If it has not, it holds its error to
/// be fatal, and only a start gets it out of that.
const REFUSED_WITH_ROOM_MAX: Duration = Duration::from_secs(60);

/// The disk under a keyspace, when there is no space on it.
pub trait Room: fmt::Debug + Send + Sync {
    /// Whether writes fail whatever RocksDB says: only in simulations.
    fn is_full(&self) -> bool {
        false
    }

    /// Called while something waits: gives up what was kept for this. Whether there is room now. May block.
    ///
    /// # Errors
    /// The operating system's.
    fn make(&self) -> io::Result<bool>;
}

/// A disk about which nothing is known.
#[derive(Debug)]
pub(crate) struct UnknownRoom;

impl Room for UnknownRoom {
    fn make(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// Who waits for space on a keyspace's disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    room: Arc<dyn Room>,
    /// How many wait, and since when somebody does.
    waiting: AtomicU32,
    since: Mutex<Option<Instant>>,
    stop: CancellationToken,
}

/// One that waits, until it is dropped.
struct Waiter<'w>(&'w Waiting);

impl<'w> Waiter<'w> {
    fn new(waiting: &'w Waiting) -> Self {
        if waiting.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            *waiting.since.lock() = Some(Instant::now());
        }
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.since.lock() = None;
        }
    }
}

impl Waiting {
    pub fn new(room: Arc<dyn Room>, stop: CancellationToken) -> Self {
        Self { room, waiting: AtomicU32::new(0), since: Mutex::default(), stop }
    }

    /// For how long something has waited for space; nothing if nothing does.
    pub fn lacks_room_for(&self) -> Option<Duration> {
        self.since.lock().map(|since| since.elapsed())
    }

    /// Fails where a simulated disk is full.
    pub fn admit(&self) -> io::Result<()> {
        if self.room.is_full() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Tries until it is not for want of space that it fails, or the member stops. `attempt` must change nothing when it
    /// fails so.
    ///
    /// # Errors
    /// The attempt's.
    pub async fn until_room<T, F>(&self, mut attempt: impl FnMut() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut waiter: Option<Waiter<'_>> = None;
        let mut reminded: Option<Instant> = None;
        let mut room_since: Option<Instant> = None;
        loop {
            let error = match attempt().await {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => error,
                outcome => {
                    if waiter.is_some() {
                        tracing::info!(is_done = outcome.is_ok(), "the keyspace does not wait for space any more");
                    }
                    return outcome;
                }
            };
            waiter.get_or_insert_with(|| Waiter::new(self));
            if reminded.is_none_or(|at| at.elapsed() > REMINDER) {
                tracing::error!(%error, "the disk is full: the keyspace waits for space");
                reminded = Some(Instant::now());
            }
            let has_room = self.room.make().unwrap_or_else(|error| {
                tracing::error!(%error, "no room can be made");
                false
            });
            room_since = if has_room { room_since.or_else(|| Some(Instant::now())) } else { None };
            if room_since.is_some_and(|since| since.elapsed() > REFUSED_WITH_ROOM_MAX) {
                return Err(io::Error::other(error));
            }
            tokio::select! {
                () = sleep(RETRY_PAUSE) => {}
                () = self.stop.cancelled() => return Err(error),
            }
        }
    }
}

/// The keyspace's error for Raft, which tells only want of space from the rest.
pub(crate) fn disk_error(error: DiskError) -> io::Error {
    let kind = if error.is_full() { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[derive(Debug, Default)]
    struct Made(AtomicBool);

    impl Room for Made {
        fn make(&self) -> io::Result<bool> {
            Ok(self.0.swap(true, Ordering::Relaxed))
        }
    }

    fn waiting() -> (Waiting, CancellationToken) {
        let stop = CancellationToken::new();
        (Waiting::new(Arc::new(Made::default()), stop.clone()), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_tried_again_until_it_does() {
        let (waiting, _stop) = waiting();
        let mut attempts = 0;
        let outcome = waiting
            .until_room(|| {
                attempts += 1;
                let waits = waiting.lacks_room_for().is_some();
                std::future::ready(if attempts < 4 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(waits) })
            })
            .await;
        assert_eq!((outcome.unwrap(), attempts), (true, 4));
        assert_eq!(waiting.lacks_room_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn other_errors_refusals_in_spite_of_room_and_a_stop_end_the_wait() {
        let (waiting, stop) = waiting();
        let full = || std::future::ready(Err::<(), _>(io::ErrorKind::StorageFull.into()));
        let failed = waiting.until_room(|| std::future::ready(Err::<(), _>(io::ErrorKind::NotFound.into()))).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::NotFound);
        let begun = Instant::now();
        assert_eq!(waiting.until_room(full).await.unwrap_err().kind(), io::ErrorKind::Other);
        assert!(begun.elapsed() >= REFUSED_WITH_ROOM_MAX);
        stop.cancel();
        assert_eq!(waiting.until_room(full).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
