//! Errors as etcd's clients know them: exact codes and texts, since clients match both
//! (etcd `api/v3rpc/rpctypes/error.go`).

use tonic::{Code, Status};
use xebec_store_core::{RequestError, ViewError, auth::AuthError};
use xebec_store_disk::DiskError;
use xebec_store_raft::{MembershipRefusal, RequestFailure};

/// A failed request as a gRPC status.
pub(crate) trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for RequestError {
    fn into_status(self) -> Status {
        let code = match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSortOption => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::NoSpace => Code::ResourceExhausted,
            Self::LeaseNotFound => Code::NotFound,
            Self::LeaseExists => Code::FailedPrecondition,
            Self::Corrupt => Code::DataLoss,
            Self::Auth(refusal) => return refusal.into_status(),
        };
        Status::new(code, self.to_string())
    }
}

impl IntoStatus for AuthError {
    fn into_status(self) -> Status {
        let code = match self {
            Self::UserEmpty
            | Self::RoleEmpty
            | Self::AuthFailed
            | Self::PermissionNotGiven
            | Self::InvalidAuthManagement
            | Self::OldRevision => Code::InvalidArgument,
            Self::RootUserNotExist
            | Self::RootRoleNotExist
            | Self::UserAlreadyExists
            | Self::UserNotFound
            | Self::RoleAlreadyExists
            | Self::RoleNotFound
            | Self::RoleNotGranted
            | Self::PermissionNotGranted
            | Self::AuthNotEnabled => Code::FailedPrecondition,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::InvalidAuthToken => Code::Unauthenticated,
            // etcd does not translate this one.
            Self::NoPasswordUser => Code::Unknown,
        };
        Status::new(code, self.to_string())
    }
}

impl IntoStatus for RequestFailure {
    fn into_status(self) -> Status {
        match self {
            Self::NoLeader => no_leader(),
            Self::LeaderChanged => Status::unavailable("etcdserver: leader changed"),
            Self::Timeout => timed_out(),
            Self::TooManyRequests => Status::resource_exhausted("etcdserver: too many requests"),
            Self::Stopped => stopped(),
            Self::NotLeader => not_leader(),
            Self::UnknownMember(_) => Status::failed_precondition("etcdserver: bad leader transferee"),
            Self::Malformed(reason) => {
                tracing::error!(reason, "a request failed");
                Status::internal("etcdserver: internal error")
            }
        }
    }
}

impl IntoStatus for MembershipRefusal {
    fn into_status(self) -> Status {
        let code = match self {
            Self::BadUrls => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Unhealthy => Code::Unavailable,
            Self::MemberExists
            | Self::PeerUrlExists
            | Self::NotEnoughStarted
            | Self::NotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners => Code::FailedPrecondition,
        };
        Status::new(code, self.to_string())
    }
}

impl IntoStatus for ViewError {
    fn into_status(self) -> Status {
        tracing::error!(error = %self, cause = %self.0, "the keyspace cannot be read");
        Status::internal("etcdserver: the keyspace cannot be read")
    }
}

impl IntoStatus for DiskError {
    fn into_status(self) -> Status {
        if let Self::Unreadable { revision, compacted, .. } = &self {
            let refusal = if revision < compacted { RequestError::Compacted } else { RequestError::FutureRevision };
            return refusal.into_status();
        }
        tracing::error!(error = %self, "the keyspace cannot be read");
        Status::internal("etcdserver: the keyspace cannot be read")
    }
}

impl IntoStatus for tokio::task::JoinError {
    fn into_status(self) -> Status {
        tracing::error!(error = %self, "a request's work was lost");
        Status::internal("etcdserver: internal error")
    }
}

/// `ErrGRPCNoLeader`.
pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// `ErrGRPCTimeout`.
pub(crate) fn timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

/// `ErrGRPCNotLeader`.
pub(crate) fn not_leader() -> Status {
    Status::failed_precondition("etcdserver: not leader")
}

/// `ErrGRPCNotSupportedForLearner`.
pub(crate) fn not_for_learners() -> Status {
    Status::failed_precondition("etcdserver: rpc not supported for learner")
}

/// `ErrGRPCStopped`.
pub(crate) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// `ErrGRPCRequestTooLarge`.
pub(crate) fn request_too_large() -> Status {
    Status::invalid_argument("etcdserver: request is too large")
}

/// `mvcc.ErrWatcherDuplicateID`, as a cancel reason.
pub(crate) const DUPLICATE_WATCH_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// `mvcc.ErrEmptyWatcherRange`, as a cancel reason.
pub(crate) const EMPTY_WATCH_RANGE: &str = "mvcc: watcher range is empty";
/// `ErrGRPCCompacted`, as a cancel reason.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
