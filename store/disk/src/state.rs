use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xebec_store_core::auth::AuthState;
use xebec_store_core::{Alarm, ClusterTime, LogPosition, Revision};

/// The small replicated state, one record in `meta`, written with every commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The last log entry whose effects are in the keyspace.
    pub(crate) position: Option<LogPosition>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) cluster_time: ClusterTime,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) cluster_id: u64,
    pub(crate) cleaning: Cleaning,
    /// The sum of the living versions, see `digest`.
    pub(crate) digest: u64,
    /// Users, roles and tokens. They have records of their own in `meta`, see `auth`.
    #[serde(skip)]
    pub(crate) auth: Arc<AuthState>,
}

/// How far removing compacted versions has come. Members differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cleaning {
    /// The compaction that was carried out completely.
    pub(crate) done: Revision,
    /// The next entry of `by_revision` to look at.
    pub(crate) next_revision: Revision,
    pub(crate) next_sub: u32,
}

impl State {
    pub(crate) fn empty(cluster_id: u64) -> State {
        State {
            position: None,
            revision: Revision::EMPTY,
            compacted: Revision::NEVER_COMPACTED,
            cluster_time: ClusterTime(0),
            alarms: Vec::new(),
            cluster_id,
            cleaning: Cleaning { done: Revision(0), next_revision: Revision(0), next_sub: 0 },
            digest: 0,
            auth: Arc::default(),
        }
    }
}

/// Names in `meta`.
pub(crate) const STATE_NAME: &[u8] = b"state";
/// How far this member's own log was on disk, see `Keyspace::log_kept`. Members differ here.
pub(crate) const LOG_KEPT_NAME: &[u8] = b"log-kept";
pub(crate) const MEMBERSHIP_NAME: &[u8] = b"membership";
/// Cluster records follow under this prefix.
pub(crate) const RECORD_PREFIX: &str = "record/";
