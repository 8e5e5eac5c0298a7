use std::error::Error;
use std::sync::Arc;

use crate::auth::AuthError;
use serde::{Deserialize, Serialize};

/// Why a request was refused: one variant per etcd error that the state machine can give, with etcd's words, which
/// clients match (etcd `api/v3rpc/rpctypes/error.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RequestError {
    /// `ErrGRPCEmptyKey`, InvalidArgument.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ErrGRPCKeyNotFound`, InvalidArgument: an operation without a request, or ignore_value/ignore_lease on a
    /// missing key.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ErrGRPCValueProvided`, InvalidArgument.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ErrGRPCLeaseProvided`, InvalidArgument.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// `ErrGRPCTooManyOps`, InvalidArgument.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// `ErrGRPCDuplicateKey`, InvalidArgument.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// `ErrGRPCInvalidSortOption`, InvalidArgument.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// `ErrGRPCCompacted`, OutOfRange.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// `ErrGRPCFutureRev`, OutOfRange.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// `ErrGRPCNoSpace`, ResourceExhausted.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// `ErrGRPCLeaseNotFound`, NotFound.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// `ErrGRPCLeaseExist`, FailedPrecondition.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// `ErrGRPCLeaseTTLTooLarge`, OutOfRange.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// `ErrGRPCCorrupt`, DataLoss.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// Authentication or authorization.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// A view could not be read. This is this member's own trouble (a disk), never part of the replicated outcome: a
/// member that meets it while applying must stop.
#[derive(Clone, Debug, thiserror::Error)]
#[error("reading the keyspace failed")]
pub struct ViewError(#[source] pub Arc<dyn Error + Send + Sync>);

impl ViewError {
    /// Wraps the cause.
    pub fn new(cause: impl Error + Send + Sync + 'static) -> ViewError {
        ViewError(Arc::new(cause))
    }
}
