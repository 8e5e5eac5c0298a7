//! What a failed request means for the caller. Decided by status code and reason, never by message.

use kube::Error;

/// The reason of writes refused because the leadership they were made under no longer stands.
pub const LEADERSHIP_LOST: &str = "LeadershipLost";

/// The `(code, reason)` of an answer of the API server, if there was an answer.
pub fn status(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::Api(status) => Some((status.code, status.reason.as_str())),
        _ => None,
    }
}

/// The object (or the kind) does not exist.
pub fn is_not_found(error: &Error) -> bool {
    matches!(status(error), Some((404, _)))
}

/// Somebody else changed the object since it was read.
pub fn is_conflict(error: &Error) -> bool {
    matches!(status(error), Some((409, "Conflict")))
}

/// An object of this name exists already.
pub fn is_already_exists(error: &Error) -> bool {
    matches!(status(error), Some((409, "AlreadyExists")))
}

/// The request is not allowed (RBAC or admission).
pub fn is_forbidden(error: &Error) -> bool {
    matches!(status(error), Some((403, _)))
}

/// The object was refused as invalid; trying the same again is of no use.
pub fn is_invalid(error: &Error) -> bool {
    matches!(status(error), Some((422, _) | (400, _)))
}

/// The leadership the write was made under is over.
pub fn is_leadership_lost(error: &Error) -> bool {
    matches!(status(error), Some((409, LEADERSHIP_LOST)))
}

/// The namespace is being deleted, so nothing can be created in it
/// (`NamespaceTerminating` cause, apimachinery `HasStatusCause`).
pub fn is_namespace_terminating(error: &Error) -> bool {
    match error {
        Error::Api(status) => status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")),
        _ => false,
    }
}
