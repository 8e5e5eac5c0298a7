use std::sync::Arc;

use rocksdb::CompactOptions;
use xebec_store_core::{EventKind, Revision};

use crate::batch::Batch;
use crate::encoding::{self, Malformed};
use crate::options::Column;
use crate::state::Cleaning;
use crate::{DiskError, Keyspace, View};

/// Changes that one [`Keyspace::compact_step`] looks at, so that commits wait for it a few milliseconds at most.
pub const COMPACTION_STEP_EVENTS_MAX: usize = 1_000;

/// What a step of removing compacted versions has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// Nothing is left to remove.
    Done,
    /// There is more; this step removed so many versions.
    More {
        /// Versions removed.
        removed: usize,
    },
}

/// What one step decided.
struct Plan {
    superseded: Vec<Vec<u8>>,
    changes: Vec<Vec<u8>>,
    cleaning: Cleaning,
}

impl Keyspace {
    /// Removes some of the versions that a compaction has made unreadable. The compaction itself is a command and was
    /// complete when it was committed; this only gives the space back. Call it from a thread of its own until it says
    /// [`CompactionStep::Done`]; it continues after a restart.
    ///
    /// A version may go when it was superseded at or before the compacted revision, and its change with it; so may a
    /// deletion that lies before that revision: a watch may still start exactly there. The change of a version that is
    /// still true stays, since snapshots and hashes need its place in its revision.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn compact_step(&self) -> Result<CompactionStep, DiskError> {
        let view = self.view();
        let state = view.state();
        if state.cleaning.done >= state.compacted {
            return Ok(CompactionStep::Done);
        }
        // Decided without the writer's lock: nothing but this step changes entries that old.
        let plan = plan(&view, state.compacted)?;
        let _writer = self.writer.lock();
        let latest = self.view();
        if !Arc::ptr_eq(latest.database(), view.database()) || latest.state().cleaning != state.cleaning {
            // A snapshot was installed, or another thread has done this step.
            return Ok(CompactionStep::More { removed: 0 });
        }
        let mut batch = Batch::new(latest.database(), latest.state().clone());
        for key in &plan.superseded {
            batch.delete(Column::History, key);
        }
        for key in &plan.changes {
            batch.delete(Column::ByRevision, key);
        }
        batch.state_mut().cleaning = plan.cleaning;
        let state = batch.write()?;
        let done = state.cleaning.done >= state.compacted;
        self.publish(Arc::clone(latest.database()), state);
        Ok(if done { CompactionStep::Done } else { CompactionStep::More { removed: plan.superseded.len() } })
    }

    /// Whether nothing is left to remove.
    pub fn is_clean(&self) -> bool {
        let view = self.view();
        view.state().cleaning.done >= view.state().compacted
    }

    /// Makes RocksDB give back the space of what compaction has removed, now and not in its own time. For a
    /// compaction that was asked to be physical, after [`CompactionStep::Done`].
    pub fn reclaim(&self) {
        let view = self.view();
        let database = view.database();
        for column in [Column::History, Column::ByRevision, Column::Current] {
            let options = CompactOptions::default();
            database.db().compact_range_cf_opt(database.column(column), None::<&[u8]>, None::<&[u8]>, &options);
        }
    }
}

fn plan(view: &View, compacted: Revision) -> Result<Plan, DiskError> {
    let Cleaning { next_revision, next_sub, done } = view.state().cleaning;
    let malformed = || view.database().malformed(Column::ByRevision);
    let upper = encoding::revision_key(compacted.next(), 0).to_vec();
    let mut iterator = view.iterate(Column::ByRevision, Some(upper));
    iterator.seek(encoding::revision_key(next_revision, next_sub));
    let mut plan =
        Plan { superseded: Vec::new(), changes: Vec::new(), cleaning: Cleaning { done, next_revision, next_sub } };
    for _ in 0..COMPACTION_STEP_EVENTS_MAX {
        let Some((key, value)) = iterator.item() else {
            view.database().finished(&iterator)?;
            // The changes at the compacted revision itself stay until the next compaction.
            plan.cleaning = Cleaning { done: compacted, next_revision: compacted, next_sub: 0 };
            return Ok(plan);
        };
        let (revision, sub) = encoding::parse_revision_key(key).map_err(|Malformed| malformed())?;
        let change = encoding::parse_change(value).map_err(|Malformed| malformed())?;
        if change.prev_mod.0 != 0 {
            plan.superseded.push(encoding::history_key(change.key, change.prev_mod));
            plan.changes.extend(change_of(view, change.key, change.prev_mod)?);
        }
        if revision < compacted && change.kind == EventKind::Delete {
            plan.changes.push(key.to_vec());
        }
        plan.cleaning = Cleaning { done, next_revision: revision, next_sub: sub + 1 };
        iterator.next();
    }
    Ok(plan)
}

/// The entry of `by_revision` for the change of `key` at `revision`, if it is still there.
fn change_of(view: &View, key: &[u8], revision: Revision) -> Result<Option<Vec<u8>>, DiskError> {
    let malformed = |Malformed| view.database().malformed(Column::ByRevision);
    let mut iterator = view.iterate(Column::ByRevision, Some(encoding::revision_key(revision.next(), 0).to_vec()));
    iterator.seek(encoding::revision_key(revision, 0));
    while let Some((entry, value)) = iterator.item() {
        if encoding::parse_change(value).map_err(malformed)?.key == key {
            return Ok(Some(entry.to_vec()));
        }
        iterator.next();
    }
    view.database().finished(&iterator)?;
    Ok(None)
}
