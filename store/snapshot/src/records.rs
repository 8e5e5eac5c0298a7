//! The small buckets' values.

use prost::Message;
use serde::{Deserialize, Serialize};

/// etcd `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRecord {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Seconds it was granted.
    #[prost(int64, tag = "2")]
    pub ttl_seconds: i64,
    /// Seconds left; 0 if that was not noted.
    #[prost(int64, tag = "3")]
    pub remaining_seconds: i64,
}

/// etcd `etcdserverpb.AlarmMember`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AlarmRecord {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub member: u64,
    /// 1 NOSPACE, 2 CORRUPT.
    #[prost(int32, tag = "2")]
    pub alarm: i32,
}

/// etcd `membership.Member` as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its id.
    pub id: u64,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    /// Whether it does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Its name, once it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// etcd `version.DowngradeInfo` as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DowngradeRecord {
    /// To which version, while it is under way.
    #[serde(rename = "target-version", default)]
    pub target_version: String,
    /// Whether it is under way.
    #[serde(default)]
    pub enabled: bool,
}

/// Raft's `ConfState` as etcd writes it.
#[derive(Serialize)]
pub(crate) struct ConfState {
    pub(crate) voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) learners: Vec<u64>,
    pub(crate) auto_leave: bool,
}
