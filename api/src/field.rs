//! Errors about one field of an object, worded as apimachinery `pkg/util/validation/field` words them.

use std::fmt;

use serde_json::Value;

/// Where a field is: `spec.containers[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path of one or, with dots, several names.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The path of the object itself, printed as `<nil>` like upstream's.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// The field `name` below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// Item `index` of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// As text, empty at the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kind of a field error; its reason in `Status` causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// A referenced value does not exist.
    NotFound,
    /// A value that must be there is not.
    Required,
    /// A value that must be unique is not.
    Duplicate,
    /// A malformed value.
    Invalid,
    /// A value outside an enumeration.
    NotSupported,
    /// A valid value that is not allowed here.
    Forbidden,
    /// Too many bytes.
    TooLong,
    /// Too many items.
    TooMany,
    /// Not the user's fault.
    Internal,
    /// A value of the wrong type.
    TypeInvalid,
}

impl ErrorType {
    /// The machine-readable reason, `FieldValueRequired` and so on.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        })
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The kind of error.
    pub error_type: ErrorType,
    /// Where.
    pub field: Path,
    /// The offending value, where it is worth printing.
    pub bad_value: Option<Value>,
    /// More words.
    pub detail: String,
}

impl Error {
    fn new(error_type: ErrorType, field: &Path, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { error_type, field: field.clone(), bad_value, detail: detail.into() }
    }

    /// A referenced value does not exist.
    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, field, Some(value.into()), "")
    }

    /// A value is missing.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, field, None, detail)
    }

    /// A value is there twice.
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, field, Some(value.into()), "")
    }

    /// A value is malformed.
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, field, Some(value.into()), detail)
    }

    /// A value is none of `supported`.
    pub fn not_supported(field: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut detail = String::new();
        if !supported.is_empty() {
            let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        Self::new(ErrorType::NotSupported, field, Some(value.into()), detail)
    }

    /// A value is not allowed here.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, field, None, detail)
    }

    /// A value is longer than `bytes_max` bytes.
    pub fn too_long(field: &Path, bytes_max: usize) -> Self {
        Self::new(ErrorType::TooLong, field, None, format!("may not be more than {bytes_max} bytes"))
    }

    /// A list of `actual` items has more than `items_max`.
    pub fn too_many(field: &Path, actual: usize, items_max: usize) -> Self {
        let noun = if items_max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, field, Some(actual.into()), format!("must have at most {items_max} {noun}"))
    }

    /// Something else went wrong while looking at the field.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, field, None, detail)
    }

    /// A value has the wrong type.
    pub fn type_invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, field, Some(value.into()), detail)
    }

    /// The message without the path.
    pub fn body(&self) -> String {
        let mut text = self.error_type.to_string();
        if let Some(value) = &self.bad_value {
            text.push_str(": ");
            match value {
                Value::String(string) => text.push_str(&format!("{string:?}")),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// Joins errors as `ErrorList.ToAggregate` prints them: one as it is, several in brackets, duplicates once.
pub fn aggregate(errors: &[Error]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.len() {
        1 => messages.swap_remove(0),
        _ => format!("[{}]", messages.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstream_prints_them() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        for (error, text) in [
            (Error::required(&path, ""), "spec.containers[0].name: Required value"),
            (Error::invalid(&path, "A_", "must be x"), "spec.containers[0].name: Invalid value: \"A_\": must be x"),
            (Error::invalid(&path, -1, "must be x"), "spec.containers[0].name: Invalid value: -1: must be x"),
            (
                Error::not_supported(&path, "x", &["a", "b"]),
                "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (Error::too_long(&path, 63), "spec.containers[0].name: Too long: may not be more than 63 bytes"),
            (Error::too_many(&path, 3, 1), "spec.containers[0].name: Too many: 3: must have at most 1 item"),
            (
                Error::forbidden(&Path::new("metadata").child("labels").key("a/b"), "no"),
                "metadata.labels[a/b]: Forbidden: no",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(aggregate(&[Error::required(&path, "")]), "spec.containers[0].name: Required value");
        let two = [
            Error::required(&Path::new("a"), ""),
            Error::required(&Path::new("b"), ""),
            Error::required(&Path::new("a"), ""),
        ];
        assert_eq!(aggregate(&two), "[a: Required value, b: Required value]");
    }
}
