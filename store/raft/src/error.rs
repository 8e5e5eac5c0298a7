//! Why the replicated store could not do something.

use std::path::PathBuf;

use xebec_store_log::LogError;

use crate::types::MemberId;

/// A request did not get an answer from the cluster. What the state machine itself refuses is not among these.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestFailure {
    /// Nobody led the cluster for as long as the request may take. Nothing happened.
    #[error("no leader")]
    NoLeader,
    /// The leader changed while the request was under way: it may or may not have happened.
    #[error("leader changed")]
    LeaderChanged,
    /// The request took too long: it may or may not have happened, or will still happen.
    #[error("request timed out")]
    Timeout,
    /// Too many requests wait. Nothing happened.
    #[error("too many requests")]
    TooManyRequests,
    /// This member has stopped.
    #[error("server stopped")]
    Stopped,
    /// This member is not the leader, and the request is for the leader only.
    #[error("not leader")]
    NotLeader,
    /// The member asked for does not exist.
    #[error("member {0:x} is unknown")]
    UnknownMember(MemberId),
    /// A message could not be encoded or decoded.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// A member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The Raft log.
    #[error("raft log: {0}")]
    Log(#[from] LogError),
    /// The keyspace.
    #[error("keyspace: {0}")]
    Keyspace(#[from] xebec_store_disk::DiskError),
    /// The log ends before what the keyspace has applied: acknowledged entries are gone.
    #[error(
        "{}: the log ends at entry {last}, but entry {applied} was applied: the log was cut or replaced", log_dir.display()
    )]
    LogTooShort {
        /// The log's directory.
        log_dir: PathBuf,
        /// Last entry in the log.
        last: u64,
        /// Last entry applied.
        applied: u64,
    },
    /// The data belongs to another member or cluster.
    #[error(
        "{}: belongs to member {found_member:x} of cluster {found_cluster:x}, not to member {member:x} of cluster {cluster:x}",
        path.display()
    )]
    Identity {
        /// The identity file.
        path: PathBuf,
        /// Member in the file.
        found_member: MemberId,
        /// Cluster in the file.
        found_cluster: u64,
        /// Member the flags describe.
        member: MemberId,
        /// Cluster the flags describe.
        cluster: u64,
    },
    /// A file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The flags contradict each other.
    #[error("{0}")]
    Config(String),
    /// openraft refused to start.
    #[error("raft: {0}")]
    Raft(String),
}
