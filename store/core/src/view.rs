use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::auth::AuthState;
use crate::{ClusterTime, KeyRange, KeyValue, LeaseId, Revision, ViewError};

/// What [`ReadView::scan`] calls for each key-value, in key order.
pub type Visit<'a> = dyn FnMut(KeyValue) -> ControlFlow<()> + 'a;

/// A lease as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives without a keep-alive.
    pub ttl_seconds: i64,
    /// The replicated deadline; keep-alives may have moved it further in the leader's memory.
    pub deadline: ClusterTime,
}

/// Why the cluster refuses some requests (etcd `AlarmType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// A member is out of space: puts and grants are refused.
    NoSpace,
    /// A member's data contradicts the others': every change is refused.
    Corrupt,
}

/// An alarm that a member has raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// Which member.
    pub member: u64,
    /// What is wrong.
    pub kind: AlarmKind,
}

/// The replicated state at one moment. A view never changes while it is held.
///
/// `at` is always a revision between [`compacted_revision`](ReadView::compacted_revision) and
/// [`current_revision`](ReadView::current_revision), both included; callers check, implementations need not.
pub trait ReadView {
    /// The revision of the present.
    fn current_revision(&self) -> Revision;

    /// The lowest readable revision; [`Revision::NEVER_COMPACTED`] if nothing was ever compacted.
    fn compacted_revision(&self) -> Revision;

    /// The version of `key` that was true at `at`.
    fn get(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, ViewError>;

    /// Visits the key-values of `range` that were true at `at`, in key order, until the visitor breaks.
    fn scan(&self, range: &KeyRange, at: Revision, visit: &mut Visit<'_>) -> Result<(), ViewError>;

    /// How many keys of `range` existed at `at`.
    fn count(&self, range: &KeyRange, at: Revision) -> Result<u64, ViewError> {
        let mut count = 0;
        self.scan(range, at, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The lease of that name.
    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, ViewError>;

    /// The keys that hang on a lease, in key order.
    fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ViewError>;

    /// Every lease, the earliest deadline first.
    fn leases(&self) -> Result<Vec<Lease>, ViewError>;

    /// The latest time a leader has replicated.
    fn cluster_time(&self) -> ClusterTime;

    /// The alarms that are raised, in order.
    fn alarms(&self) -> Vec<Alarm>;

    /// Users, roles and tokens.
    fn auth(&self) -> &AuthState;

    /// The cluster record of that name.
    fn cluster_record(&self, name: &str) -> Result<Option<Bytes>, ViewError>;

    /// The cluster records whose name begins with `prefix`, in order of name.
    fn cluster_records(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ViewError>;
}
