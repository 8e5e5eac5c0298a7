use serde::{Deserialize, Serialize};

/// Why authentication or authorization refused, with etcd's words, which clients match
/// (etcd `api/v3rpc/rpctypes/error.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AuthError {
    /// `ErrGRPCRootUserNotExist`, FailedPrecondition.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// `ErrGRPCRootRoleNotExist`, FailedPrecondition.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// `ErrGRPCUserAlreadyExist`, FailedPrecondition.
    #[error("etcdserver: user name already exists")]
    UserAlreadyExists,
    /// `ErrGRPCUserEmpty`, InvalidArgument: a user without a name, or a caller who did not say who they are.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// `ErrGRPCUserNotFound`, FailedPrecondition.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// `ErrGRPCRoleAlreadyExist`, FailedPrecondition.
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExists,
    /// `ErrGRPCRoleNotFound`, FailedPrecondition.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// `ErrGRPCRoleEmpty`, InvalidArgument.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// `ErrGRPCAuthFailed`, InvalidArgument.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// `auth.ErrNoPasswordUser`, which etcd does not translate: Unknown, with the text of its `auth` package.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// `ErrGRPCPermissionNotGiven`, InvalidArgument.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// `ErrGRPCPermissionDenied`, PermissionDenied.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// `ErrGRPCRoleNotGranted`, FailedPrecondition.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// `ErrGRPCPermissionNotGranted`, FailedPrecondition.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// `ErrGRPCAuthNotEnabled`, FailedPrecondition.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// `ErrGRPCInvalidAuthToken`, Unauthenticated.
    #[error("etcdserver: invalid auth token")]
    InvalidAuthToken,
    /// `ErrGRPCInvalidAuthMgmt`, InvalidArgument.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    /// `ErrGRPCAuthOldRevision`, InvalidArgument: users or roles changed since the caller was authenticated.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
}
