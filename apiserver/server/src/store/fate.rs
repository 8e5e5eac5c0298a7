//! What became of an attempt that was cut off: settled history, and read as such.
//!
//! Once the [epoch](super::epoch) has moved, an attempt under the one before was applied between two known revisions, or
//! never will be. What is there now does not tell which: what it created may have been deleted since, and creating it
//! again would bring it back, with the same uid. So the key is read as of every revision in between.
//!
//! A watch of the key would tell the same in one stream. But where it ends only a progress notification says, and etcd
//! before 3.4.25 and 3.5.8 sends those too early (etcd issue 15220), so that "never" could be wrong. There are few
//! revisions to look at: a store that loses answers writes little meanwhile.

use super::StoreError;
use super::client::{Kv, Store};
use super::txn::{Witness, found, reading, reads};
use std::ops::RangeInclusive;
use tokio::time::Instant;
use xebec_proto::etcdserverpb::RangeRequest;

/// Revisions read with one request: what etcd accepts in a transaction unless it is told otherwise (`--max-txn-ops`).
const REVISIONS_READ_AT_ONCE: usize = 128;
/// Revisions that are looked at for one attempt.
const REVISIONS_READ_MAX: i64 = 8192;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Committed at this revision.
    Committed(i64),
    /// Not committed; it never will be.
    Never,
    /// Nobody can tell any more.
    Unknown(Gap),
}

/// Why the history does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Gap {
    /// Somebody compacted it meanwhile.
    #[error("the history that would tell has been compacted")]
    Compacted,
    /// More than [`REVISIONS_READ_MAX`].
    #[error("too much was written since the attempt was made")]
    Long,
    /// The store is behind where it was before the attempt.
    #[error("the store has lost the history that the attempt belongs to")]
    Rewound,
}

/// A key's past.
#[derive(Clone, Debug)]
struct Past {
    /// Revision before which nothing counts: it was known before the attempt was made.
    since: i64,
    /// Versions that the key had later, each once; without a gap all of them.
    versions: Vec<Kv>,
    gap: Option<Gap>,
}

/// Whether what the attempt would have put was ever there.
fn decide(witness: Witness<'_>, past: &Past) -> Fate {
    let ours = past.versions.iter().filter(|kv| kv.mod_revision > past.since && kv.value == *witness.value);
    match (ours.map(|kv| kv.mod_revision).min(), past.gap) {
        (Some(revision), _) => Fate::Committed(revision),
        (None, None) => Fate::Never,
        (None, Some(gap)) => Fate::Unknown(gap),
    }
}

/// The revisions to look at.
fn window(since: i64, until: i64) -> Result<RangeInclusive<i64>, Gap> {
    match until - since {
        ..=0 => Err(Gap::Rewound),
        1..=REVISIONS_READ_MAX => Ok(since + 1..=until),
        _ => Err(Gap::Long),
    }
}

impl Store {
    /// What became of an attempt that was made after revision `since` and cut off at `until`.
    pub(super) async fn fate(
        &self,
        witness: Witness<'_>,
        since: i64,
        until: i64,
        deadline: Instant,
    ) -> Result<Fate, StoreError> {
        let read = match window(since, until) {
            Ok(window) => match self.versions(witness.key, window, deadline).await {
                Err(StoreError::Compacted) => Err(Gap::Compacted),
                other => Ok(other?),
            },
            Err(gap) => Err(gap),
        };
        let (versions, gap) = match read {
            Ok(versions) => (versions, None),
            // The revisions of another history mean nothing.
            Err(Gap::Rewound) => (Vec::new(), Some(Gap::Rewound)),
            Err(gap) => (self.get(witness.key).await?.0.into_iter().collect(), Some(gap)),
        };
        Ok(decide(witness, &Past { since, versions, gap }))
    }

    /// Every version that the key had in `window`.
    async fn versions(&self, key: &str, window: RangeInclusive<i64>, deadline: Instant) -> Result<Vec<Kv>, StoreError> {
        let first = *window.start();
        let revisions: Vec<i64> = window.collect();
        let mut changes = Vec::new();
        for some in revisions.chunks(REVISIONS_READ_AT_ONCE) {
            // Without values: most of these are one version, seen again and again.
            let seen = self.read_at(key, some, true, deadline).await?;
            changes.extend(seen.into_iter().flatten().map(|kv| kv.mod_revision).filter(|revision| *revision >= first));
        }
        changes.dedup();
        let mut versions = Vec::new();
        for revision in changes {
            versions.extend(self.read_at(key, &[revision], false, deadline).await?.into_iter().flatten());
        }
        Ok(versions)
    }

    /// A key as of each of these revisions, linearizably.
    async fn read_at(
        &self,
        key: &str,
        revisions: &[i64],
        keys_only: bool,
        deadline: Instant,
    ) -> Result<Vec<Option<Kv>>, StoreError> {
        let as_of = |revision: &i64| RangeRequest { revision: *revision, keys_only, ..reading(key) };
        let request = reads(revisions.iter().map(as_of));
        found(self.ask(&request, deadline, |mut client, request| async move { client.txn(request).await }).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const OURS: Bytes = Bytes::from_static(b"ours");

    fn version(value: &'static str, mod_revision: i64) -> Kv {
        let (key, value) = (Bytes::from_static(b"/r/a"), Bytes::from_static(value.as_bytes()));
        Kv { key, value, mod_revision, create_revision: mod_revision }
    }

    fn fate(versions: &[Kv], gap: Option<Gap>) -> Fate {
        decide(Witness { key: "/r/a", value: &OURS }, &Past { since: 5, versions: versions.to_vec(), gap })
    }

    #[test]
    fn what_was_there_once_was_committed_whatever_came_later() {
        assert_eq!(fate(&[version("ours", 7)], None), Fate::Committed(7));
        assert_eq!(fate(&[version("theirs", 6), version("ours", 8), version("theirs", 9)], None), Fate::Committed(8));
        // Somebody wrote the same once more.
        assert_eq!(fate(&[version("ours", 7), version("ours", 9)], None), Fate::Committed(7));
        // What is there now tells even where the history does not.
        assert_eq!(fate(&[version("ours", 7)], Some(Gap::Compacted)), Fate::Committed(7));
    }

    #[test]
    fn what_was_never_there_was_not_committed() {
        assert_eq!(fate(&[], None), Fate::Never);
        assert_eq!(fate(&[version("theirs", 6)], None), Fate::Never);
        // It was there before the attempt was made.
        assert_eq!(fate(&[version("ours", 5)], None), Fate::Never);
    }

    #[test]
    fn without_the_history_nobody_knows() {
        for gap in [Gap::Compacted, Gap::Long, Gap::Rewound] {
            assert_eq!(fate(&[], Some(gap)), Fate::Unknown(gap));
            assert_eq!(fate(&[version("theirs", 9)], Some(gap)), Fate::Unknown(gap));
        }
    }

    #[test]
    fn the_revisions_to_look_at_are_those_after_what_was_known_before() {
        assert_eq!(window(5, 7), Ok(6..=7));
        assert_eq!(window(5, 5), Err(Gap::Rewound));
        assert_eq!(window(900, 7), Err(Gap::Rewound));
        assert_eq!(window(5, 5 + REVISIONS_READ_MAX), Ok(6..=5 + REVISIONS_READ_MAX));
        assert_eq!(window(5, 6 + REVISIONS_READ_MAX), Err(Gap::Long));
    }
}
