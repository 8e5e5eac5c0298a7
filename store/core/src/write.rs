use bytes::Bytes;

use crate::auth::AuthChange;
use crate::{Alarm, ClusterTime, Event, EventKind, KeyValue, Lease, LeaseId, Revision};

/// One change that a keyspace makes when it commits an applied command.
///
/// Which keys hang on which lease follows from `Put` and `Delete`: the key leaves the lease of `prev` and joins the
/// lease of `kv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new version of a key, at `kv.mod_revision`.
    Put {
        /// Its place among the changes of the same revision.
        sub: u32,
        /// The new version.
        kv: KeyValue,
        /// The version it replaces.
        prev: Option<KeyValue>,
    },
    /// The end of a key.
    Delete {
        /// When.
        revision: Revision,
        /// Its place among the changes of the same revision.
        sub: u32,
        /// The version it ends.
        prev: KeyValue,
    },
    /// A lease is new or has a new deadline.
    LeaseSet(Lease),
    /// A lease is gone. Its keys were deleted before, in the same command.
    LeaseRemove(LeaseId),
    /// Revisions below this one are not readable any more.
    Compact(Revision),
    /// The cluster's time has reached this.
    ClusterTime(ClusterTime),
    /// An alarm is raised.
    AlarmSet(Alarm),
    /// An alarm is cleared.
    AlarmRemove(Alarm),
    /// A cluster record is set, or removed.
    ClusterRecord {
        /// Its name.
        name: String,
        /// Its new value.
        value: Option<Bytes>,
    },
    /// Users, roles or tokens change.
    Auth(AuthChange),
}

impl Write {
    /// The event that watchers see, if this is a change of a key.
    pub fn event(&self) -> Option<Event> {
        match self {
            Write::Put { kv, prev, .. } => Some(Event { kind: EventKind::Put, kv: kv.clone(), prev_kv: prev.clone() }),
            Write::Delete { revision, prev, .. } => Some(Event {
                kind: EventKind::Delete,
                kv: KeyValue { key: prev.key.clone(), mod_revision: *revision, ..KeyValue::default() },
                prev_kv: Some(prev.clone()),
            }),
            _ => None,
        }
    }
}
