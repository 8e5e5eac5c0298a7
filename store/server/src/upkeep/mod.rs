//! What a member does for itself, unasked: compaction, space, and whether its data is what the others have.

mod auto_compaction;
mod corruption;
mod space;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use xebec_store_raft::{Member, blocking};

use crate::{Error, Flags, context::Context};

pub(crate) use auto_compaction::Compaction;

/// What the services must know of it.
#[derive(Debug)]
pub(crate) struct Health {
    /// This member's data contradicts the others', or itself: it answers no one any more.
    corrupt: CancellationToken,
    /// This member has raised the NOSPACE alarm, and takes it back when there is space.
    no_space_raised: AtomicBool,
    /// Space is being given back to the file system right now.
    reclaiming: AtomicBool,
    /// Bytes that one deletion may take, as the disk was when it was last looked at.
    spare_bytes: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            corrupt: CancellationToken::new(),
            no_space_raised: AtomicBool::new(false),
            reclaiming: AtomicBool::new(false),
            spare_bytes: AtomicU64::new(u64::MAX),
        }
    }
}

impl Health {
    pub fn is_corrupt(&self) -> bool {
        self.corrupt.is_cancelled()
    }

    /// Cancelled once that is known.
    pub fn corrupt(&self) -> &CancellationToken {
        &self.corrupt
    }

    /// This member raises NOSPACE itself, for want of quota or of disk.
    pub fn note_no_space(&self) {
        self.no_space_raised.store(true, Ordering::Relaxed);
    }

    pub fn spare_bytes(&self) -> u64 {
        self.spare_bytes.load(Ordering::Relaxed)
    }
}

/// Starts the member's upkeep; it ends with the member.
pub(crate) fn spawn(context: &Context, flags: &Flags) {
    let stopped = context.member.stopped().clone();
    let (for_space, for_compaction, for_corruption) = (context.clone(), context.clone(), context.clone());
    let data_dir = flags.data_dir();
    let upkeep = flags.upkeep.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            ((), (), ()) = async {
                tokio::join!(
                    space::run(for_space, data_dir),
                    auto_compaction::run(for_compaction, upkeep.compaction()),
                    corruption::run(for_corruption, upkeep.corrupt_check_time),
                )
            } => {}
        }
    });
}

/// With `--initial-corrupt-check`, reads the keyspace through before anybody is served.
pub(crate) async fn initial_check(member: &Member, flags: &Flags) -> Result<(), Error> {
    if !flags.upkeep.initial_corrupt_check {
        return Ok(());
    }
    let keyspace = member.keyspace().clone();
    let scrubbed = blocking(move || keyspace.scrub()).await.map_err(|error| Error::Stopped(error.to_string()))?;
    match scrubbed {
        Ok(scrub) if scrub.kept == scrub.found => Ok(()),
        Ok(scrub) => Err(Error::Stopped(corruption::explain(&scrub))),
        Err(error) => Err(Error::Stopped(error.to_string())),
    }
}

/// Gives space back to the file system in the background; at once if that is going on already.
pub(crate) fn reclaim(context: &Context) {
    if context.health.reclaiming.swap(true, Ordering::AcqRel) {
        return;
    }
    let (keyspace, health) = (context.member.keyspace().clone(), context.health.clone());
    tokio::task::spawn_blocking(move || {
        keyspace.reclaim();
        health.reclaiming.store(false, Ordering::Release);
    });
}
