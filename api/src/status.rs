//! `metav1.Status`, with the constructors of apimachinery `pkg/api/errors`.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field;
use crate::gvk::{GroupKind, GroupResource};

/// The answer to a request that has no object to show, failures above all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, `""` when unknown.
    pub reason: &'static str,
    /// For humans.
    pub message: String,
    /// About what.
    pub details: Option<Details>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Details {
    /// The object's name, or the operation's.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The kind, or the resource: upstream uses either.
    pub kind: String,
    /// The object's UID.
    pub uid: String,
    /// One entry per thing wrong.
    pub causes: Vec<Cause>,
    /// When to try again; 0 when that says nothing. Seconds.
    pub retry_after_seconds: u32,
}

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cause {
    /// `FieldValueInvalid` and so on.
    pub reason: String,
    /// For humans.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.details = Some(Details {
            name: name.to_owned(),
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..Details::default()
        });
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// 404: the object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// 404 for a URL nobody serves.
    pub fn path_not_found() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").retry_after(0)
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// 409: no free name was found for `generateName`.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{resource} {name:?} already exists, the server was not able to generate a unique name for the object"
        );
        Self::new(409, "AlreadyExists", message).about(resource, name).retry_after(retry_after_seconds)
    }

    /// 401. An empty message reads "not authorized".
    pub fn unauthorized(message: &str) -> Self {
        Self::new(401, "Unauthorized", if message.is_empty() { "not authorized" } else { message })
    }

    /// 403: who may not do what; `name` may be empty.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// 409: another write came first.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"))
            .about(resource, name)
    }

    /// 409 of an update whose resourceVersion is no longer the newest, in the registry's words.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409 of server-side apply: fields owned by others.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(Details { causes, ..Details::default() });
        status
    }

    /// 410: was there, is no more.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 410: the resourceVersion is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 422: what validation found.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &[field::Error]) -> Self {
        let mut message = format!("{kind} {name:?} is invalid");
        if !errors.is_empty() {
            message = format!("{message}: {}", field::aggregate(errors));
        }
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.error_type.reason().to_owned(),
                message: error.body(),
                field: error.field.to_string(),
            })
            .collect();
        let details = Details {
            name: name.to_owned(),
            group: kind.group.clone(),
            kind: kind.kind.clone(),
            causes,
            ..Details::default()
        };
        Self { details: Some(details), ..Self::new(422, "Invalid", message) }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405: this resource cannot do that.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{resource}\"");
        Self::new(405, "MethodNotAllowed", message).about(resource, "")
    }

    /// 405 for a path that takes other methods.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .retry_after(0)
    }

    /// 406: none of the accepted media types can be produced.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {}", accepted.join(", ")))
    }

    /// 413.
    pub fn request_entity_too_large(message: &str) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// 415: the body is of an unknown type.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429 in the caller's words.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    /// 500. `why` is shown to the client: nothing secret.
    pub fn internal_error(why: &str) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        let cause = Cause { message: why.to_owned(), ..Cause::default() };
        status.details = Some(Details { causes: vec![cause], ..Details::default() });
        status
    }

    /// 500: the server gave up, and trying again may help.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::new(500, "ServerTimeout", message).about(resource, operation).retry_after(retry_after_seconds)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// Any other failure: a code, a reason of our own (`LeadershipLost`), a message.
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, reason, message)
    }

    /// 200 for a deletion that returns no object, as `DELETE` answers once the object is gone.
    pub fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Self {
        let mut status = Self::new(200, "", "").about(resource, name);
        if let Some(details) = &mut status.details {
            details.uid = uid.to_owned();
        }
        status
    }

    /// A bare success.
    pub fn success() -> Self {
        Self::new(200, "", "")
    }

    /// Sets the retry hint; the server sends it as `Retry-After`, too.
    pub fn with_retry_after_seconds(self, seconds: u32) -> Self {
        self.retry_after(seconds)
    }

    /// Adds a cause.
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Whether this reports success.
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// As the API object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": if self.is_success() { "Success" } else { "Failure" },
        });
        if let Value::Object(map) = &mut status {
            put(map, "message", &self.message);
            put(map, "reason", self.reason);
            // Upstream's successes carry no code.
            if !self.is_success() {
                map.insert("code".into(), Value::from(self.code));
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), details.to_value());
            }
        }
        status
    }
}

fn put(map: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key.to_owned(), Value::from(text));
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        put(&mut map, "name", &self.name);
        put(&mut map, "group", &self.group);
        put(&mut map, "kind", &self.kind);
        put(&mut map, "uid", &self.uid);
        if !self.causes.is_empty() {
            map.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds != 0 {
            map.insert("retryAfterSeconds".into(), Value::from(self.retry_after_seconds));
        }
        Value::Object(map)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        put(&mut map, "reason", &self.reason);
        put(&mut map, "message", &self.message);
        put(&mut map, "field", &self.field);
        Value::Object(map)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Error, Path};

    #[test]
    fn failures_have_upstreams_code_reason_and_words() {
        let deployments = GroupResource::new("apps", "deployments");
        let status = Status::not_found(&deployments, "web");
        assert_eq!(
            status.to_value(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "deployments.apps \"web\" not found", "details": {"name": "web", "group": "apps", "kind": "deployments"}})
        );
        let pods = GroupResource::new("", "pods");
        for (status, code, message) in [
            (Status::forbidden(&pods, "", "no"), 403, "pods is forbidden: no"),
            (Status::forbidden(&pods, "a", "no"), 403, "pods \"a\" is forbidden: no"),
            (Status::method_not_supported(&pods, "patch"), 405, "patch is not supported on resources of kind \"pods\""),
            (Status::internal_error("x"), 500, "Internal error occurred: x"),
            (Status::timeout("x", 0), 504, "Timeout: x"),
        ] {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn invalid_objects_name_each_cause() {
        let errors = [Error::required(&Path::new("spec.a"), ""), Error::invalid(&Path::new("spec.b"), 1, "no")];
        let status = Status::invalid(&GroupKind::new("apps", "Deployment"), "web", &errors);
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: no]"
        );
        let causes = &status.to_value()["details"]["causes"];
        assert_eq!(
            causes[1],
            json!({"reason": "FieldValueInvalid", "message": "Invalid value: 1: no", "field": "spec.b"})
        );
    }
}
