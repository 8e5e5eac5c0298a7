//! Query and path parameters.

use serde_json::{Value, json};

use super::Dialect;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Number,
}

/// One query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) description: &'static str,
}

const fn parameter(name: &'static str, kind: Kind, description: &'static str) -> Parameter {
    Parameter { name, kind, description }
}

/// Every request may ask for indented JSON.
pub(super) const PRETTY: Parameter = parameter("pretty", Kind::Text, "Indent the output if 'true'.");

/// LIST and WATCH.
pub(super) const LIST: [Parameter; 10] = [
    parameter("allowWatchBookmarks", Kind::Flag, "Ask for BOOKMARK events in a watch."),
    parameter("continue", Kind::Text, "Token of the previous page of a list."),
    parameter("fieldSelector", Kind::Text, "Only objects whose fields match."),
    parameter("labelSelector", Kind::Text, "Only objects whose labels match."),
    parameter("limit", Kind::Number, "Items per page; more are told by `continue` in the list's metadata."),
    parameter("resourceVersion", Kind::Text, "Revision the answer must be based on."),
    parameter("resourceVersionMatch", Kind::Text, "How `resourceVersion` applies: Exact or NotOlderThan."),
    parameter("sendInitialEvents", Kind::Flag, "Begin a watch with the present state, and mark its end by a bookmark."),
    parameter("timeoutSeconds", Kind::Number, "Longest duration of the request."),
    parameter("watch", Kind::Flag, "Stream changes instead of a list."),
];

/// Nothing is stored.
pub(super) const DRY_RUN: Parameter = parameter("dryRun", Kind::Text, "'All' runs every stage but stores nothing.");
/// Who changes fields.
pub(super) const FIELD_MANAGER: Parameter =
    parameter("fieldManager", Kind::Text, "Name of who makes the change, at most 128 printable characters.");
/// What unknown fields mean.
pub(super) const FIELD_VALIDATION: Parameter = parameter(
    "fieldValidation",
    Kind::Text,
    "What unknown and duplicate fields do: Ignore, Warn (the default) or Strict.",
);
/// Apply takes fields over.
pub(super) const FORCE: Parameter = parameter("force", Kind::Flag, "Apply patches take over fields that others own.");

/// DELETE.
pub(super) const DELETE: [Parameter; 5] = [
    DRY_RUN,
    parameter("gracePeriodSeconds", Kind::Number, "Seconds until the object is deleted; 0 means at once."),
    parameter(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        Kind::Flag,
        "Delete even an object that cannot be decoded. Unsafe.",
    ),
    parameter("orphanDependents", Kind::Flag, "Deprecated: use propagationPolicy."),
    parameter("propagationPolicy", Kind::Text, "What becomes of dependents: Orphan, Background or Foreground."),
];

/// Logs.
pub(super) const LOG: [Parameter; 9] = [
    parameter("container", Kind::Text, "The container; may be left out if there is one only."),
    parameter("follow", Kind::Flag, "Stream what is yet to come."),
    parameter("insecureSkipTLSVerifyBackend", Kind::Flag, "Do not verify the kubelet's certificate."),
    parameter("limitBytes", Kind::Number, "Bytes after which the output ends."),
    parameter("previous", Kind::Flag, "Logs of the previous, terminated container."),
    parameter("sinceSeconds", Kind::Number, "Only what is younger than this."),
    parameter("stream", Kind::Text, "All, Stdout or Stderr."),
    parameter("tailLines", Kind::Number, "Lines from the end to begin with."),
    parameter("timestamps", Kind::Flag, "A timestamp before every line."),
];

impl Parameter {
    pub(super) fn render(&self, dialect: Dialect) -> Value {
        let kind = match self.kind {
            Kind::Text => "string",
            Kind::Flag => "boolean",
            Kind::Number => "integer",
        };
        let base = json!({"name": self.name, "in": "query", "description": self.description});
        typed(base, kind, dialect)
    }
}

/// A placeholder in the path.
pub(super) fn path_parameter(name: &str, dialect: Dialect) -> Value {
    typed(json!({"name": name, "in": "path", "required": true}), "string", dialect)
}

/// A parameter that is a field of an options kind (`PodExecOptions`).
pub(super) fn option_parameter(name: &str, kind: &str, description: &str, dialect: Dialect) -> Value {
    typed(json!({"name": name, "in": "query", "description": description}), kind, dialect)
}

fn typed(mut parameter: Value, kind: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = Value::Bool(true);
        }
        Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    parameter
}
