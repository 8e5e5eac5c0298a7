//! The four patches of Kubernetes: JSON (RFC 6902), JSON merge (RFC 7396), strategic merge, and server-side apply.

pub mod apply;
mod fieldset;
mod json;
mod strategic;

pub use fieldset::FieldSet;
pub use json::{json_patch, merge_patch};
pub use strategic::strategic_merge_patch;

use xebec_api::Status;

/// Most operations of one JSON patch (apiserver `maxJSONPatchOperations`).
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// Which patch a body is, by its Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`.
    Apply,
}

impl PatchType {
    /// By Content-Type; parameters are ignored.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Some(Self::Apply),
            _ => None,
        }
    }

    /// The content types that PATCH takes, for 415.
    pub const ACCEPTED: [&str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ];
}

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense: 400.
    #[error("{0}")]
    Malformed(String),
    /// It makes sense, but not for this object (a failed `test`, a path that is not there): 422.
    #[error("{0}")]
    DoesNotApply(String),
    /// Too many operations: 413.
    #[error("The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
}

impl PatchError {
    /// As the API answers it.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Malformed(message) => Status::bad_request(message.clone()),
            Self::DoesNotApply(_) => {
                Status::failure(422, "Invalid", "the server rejected our request due to an error in our request")
            }
            Self::TooManyOperations(_) => Status::request_entity_too_large(&self.to_string()),
        }
    }
}
