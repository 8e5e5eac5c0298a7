use std::ops::ControlFlow;

use bytes::Bytes;
use xebec_store_core::{EventKind, KeyValue, ReadView, Revision};

use crate::encoding::{self, Malformed};
use crate::options::Column;
use crate::{DiskError, View};

/// One version or deletion that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it was made.
    pub revision: Revision,
    /// Its place among the changes of that revision.
    pub sub: u32,
    /// What it is.
    pub change: VersionChange,
}

/// What a [`Version`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChange {
    /// A version, and the revision that superseded it or deleted its key.
    Put(KeyValue, Option<Revision>),
    /// The end of a key.
    Delete(Bytes),
}

impl View {
    /// Visits the history in order of revision, as etcd's `key` bucket has it once compaction is through: every change
    /// from the compacted revision on (a deletion at that revision included), and before it the versions that were
    /// true then. How far removing old versions has come makes no difference.
    ///
    /// # Errors
    /// If the disk cannot be read; [`DiskError::Corrupt`] if a version is missing.
    pub fn versions(&self, visit: &mut dyn FnMut(Version) -> ControlFlow<()>) -> Result<(), DiskError> {
        let compacted = self.compacted_revision();
        let malformed = || self.database().malformed(Column::ByRevision);
        let mut iterator = self.iterate(Column::ByRevision, None);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            let (revision, sub) = encoding::parse_revision_key(key).map_err(|Malformed| malformed())?;
            let change = encoding::parse_change(value).map_err(|Malformed| malformed())?;
            let key = Bytes::copy_from_slice(change.key);
            let change = match change.kind {
                EventKind::Delete => (revision >= compacted).then_some(VersionChange::Delete(key)),
                EventKind::Put => match self.version_with_end(&key, revision)? {
                    Some((kv, until)) => {
                        let is_kept = revision > compacted || until.is_none_or(|until| until > compacted);
                        is_kept.then_some(VersionChange::Put(kv, until))
                    }
                    // Superseded before the compaction, and half removed.
                    None if revision <= compacted => None,
                    None => {
                        let reason = format!("the version of revision {revision} of {} is missing", key.escape_ascii());
                        return Err(DiskError::corrupt(self.database().dir(), None, reason));
                    }
                },
            };
            if let Some(change) = change
                && visit(Version { revision, sub, change }).is_break()
            {
                return Ok(());
            }
            iterator.next();
        }
        self.database().finished(&iterator)
    }

    /// The version of `key` made at `revision`, and the revision that ended it.
    fn version_with_end(
        &self,
        key: &Bytes,
        revision: Revision,
    ) -> Result<Option<(KeyValue, Option<Revision>)>, DiskError> {
        let living = |Malformed| self.database().malformed(Column::Current);
        if let Some(found) = self.read(Column::Current, key)?
            && encoding::parse_current_mod(&found).map_err(living)? == revision
        {
            return Ok(Some((encoding::parse_current(key.clone(), &found).map_err(living)?, None)));
        }
        let past = |Malformed| self.database().malformed(Column::History);
        let Some(found) = self.read(Column::History, &encoding::history_key(key, revision))? else { return Ok(None) };
        let until = encoding::parse_history_until(&found).map_err(past)?;
        Ok(Some((encoding::parse_history(key.clone(), revision, &found).map_err(past)?, Some(until))))
    }
}
