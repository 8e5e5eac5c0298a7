//! What can be wrong with encoded objects.

use std::fmt;

use crate::gvk::GroupVersionKind;

/// Why an object could not be decoded or encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No schema for this kind: a custom resource, or nothing at all.
    #[error("no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"", .0.kind, .0.api_version())]
    UnknownKind(GroupVersionKind),
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A JSON value of another type than the schema's, or of a form its type refuses; in Go's words.
    #[error("{0}")]
    Type(String),
    /// Not the protobuf the schema says.
    #[error("proto: {0}")]
    Protobuf(&'static str),
    /// The `k8s\0` prefix is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotProtobuf,
    /// `apiVersion` or `kind` is missing.
    #[error("Object '{0}' is missing in '{1}'")]
    Missing(&'static str, String),
    /// Nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    #[error("exceeded max depth")]
    TooDeep,
    /// Larger than [`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX).
    #[error("message of {0} bytes is too large")]
    TooLarge(usize),
}

/// A field that decoding passed over but strict validation refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StrictError {
    /// The schema has no such field.
    UnknownField(String),
    /// The field is there more than once.
    DuplicateField(String),
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(path) => write!(f, "unknown field {path:?}"),
            Self::DuplicateField(path) => write!(f, "duplicate field {path:?}"),
        }
    }
}
