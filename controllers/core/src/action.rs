use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{meta::Object, resource::Resource};

/// Names one object of the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Kind of the object.
    pub resource: Resource,
    /// Namespace, when the kind has one.
    pub namespace: Option<String>,
    /// Name; for an object to be created with `generateName`, that prefix.
    pub name: String,
}

impl Target {
    /// The target of a cached object.
    #[must_use]
    pub fn of<K: Object>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        let meta = object.metadata();
        Self {
            resource: Resource::of::<K>(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().or_else(|| meta.generate_name.clone()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.resource)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are removed after it.
    Background,
    /// They are removed before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Propagation {
    /// The value in `DeleteOptions.propagationPolicy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Options of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Delete only the object with this UID.
    pub uid: Option<String>,
    /// Delete only at this version.
    pub resource_version: Option<String>,
    /// Seconds given to the object; 0 removes it at once.
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents.
    pub propagation: Option<Propagation>,
}

/// One thing a controller wants done. Actions of one reconciliation are carried out in order; the first that fails
/// ends it, and the key is tried again later.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Go on only if the object still exists with this UID and is not being deleted, asked of the API server itself.
    Verify {
        /// The object.
        target: Target,
        /// Its UID.
        uid: String,
    },
    /// Create the object. Neighbouring creations form a slow-start batch.
    Create {
        /// Where.
        target: Target,
        /// The object.
        body: Value,
    },
    /// Replace the object or one of its subresources, at the version in its metadata.
    Update {
        /// The object.
        target: Target,
        /// `status`, `finalize`, `approval`; the object itself when absent.
        subresource: Option<&'static str>,
        /// The whole object.
        body: Value,
    },
    /// JSON merge patch.
    Patch {
        /// The object.
        target: Target,
        /// `status`, or the object itself when absent.
        subresource: Option<&'static str>,
        /// The patch.
        body: Value,
    },
    /// Delete the object.
    Delete {
        /// The object.
        target: Target,
        /// How.
        options: DeleteOptions,
    },
    /// Delete every object of a kind in a namespace, in the background.
    DeleteAll {
        /// The kind.
        resource: Resource,
        /// The namespace.
        namespace: String,
    },
    /// Sign a certificate for an approved request and put it into the request's status.
    Sign {
        /// The request.
        target: Target,
        /// What to put into the certificate.
        order: Box<crate::csr::Order>,
    },
    /// Put a ServiceAccount token, obtained from the API server, into a Secret.
    FillToken {
        /// The Secret.
        target: Target,
        /// Its UID, to which the token is bound.
        uid: String,
        /// The ServiceAccount of the same namespace.
        account: String,
        /// The merge patch for the Secret, to which the token is added.
        body: Value,
    },
    /// Tell users what happened.
    Event {
        /// The object it happened to.
        involved: Box<ObjectReference>,
        /// Whether it is a warning.
        warning: bool,
        /// Machine-readable cause, CamelCase.
        reason: &'static str,
        /// Text for people.
        message: String,
    },
    /// Reconcile this key again after a time, unless something else wakes it earlier.
    Wake {
        /// Time from now.
        after: Duration,
    },
}

impl Action {
    /// Creates `object`.
    #[must_use]
    pub fn create<K: Object + Serialize>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        Self::Create { target: Target::of(object), body: to_value(object) }
    }

    /// Replaces `object` at its cached version.
    #[must_use]
    pub fn update<K: Object + Serialize>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        Self::Update { target: Target::of(object), subresource: None, body: to_value(object) }
    }

    /// Replaces the status of `object` at its cached version.
    #[must_use]
    pub fn update_status<K: Object + Serialize>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        Self::update_subresource(object, "status")
    }

    /// Replaces a subresource of `object` at its cached version.
    #[must_use]
    pub fn update_subresource<K: Object + Serialize>(object: &K, name: &'static str) -> Self
    where
        K::Scope: 'static,
    {
        Self::Update { target: Target::of(object), subresource: Some(name), body: to_value(object) }
    }

    /// Merges `body` into `object`, only if it still is the same object.
    #[must_use]
    pub fn patch<K: Object>(object: &K, mut body: Value) -> Self
    where
        K::Scope: 'static,
    {
        if let Some(uid) = &object.metadata().uid {
            body["metadata"]["uid"] = json!(uid);
        }
        Self::Patch { target: Target::of(object), subresource: None, body }
    }

    /// Merges `status` into the status of `object`, only if it still is the same object.
    #[must_use]
    pub fn patch_status<K: Object>(object: &K, status: Value) -> Self
    where
        K::Scope: 'static,
    {
        let mut body = json!({ "status": status });
        if let Some(uid) = &object.metadata().uid {
            body["metadata"]["uid"] = json!(uid);
        }
        Self::Patch { target: Target::of(object), subresource: Some("status"), body }
    }

    /// Deletes exactly this object, dependents in the background.
    #[must_use]
    pub fn delete<K: Object>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        Self::Delete {
            target: Target::of(object),
            options: DeleteOptions {
                uid: object.metadata().uid.clone(),
                propagation: Some(Propagation::Background),
                ..DeleteOptions::default()
            },
        }
    }

    /// Deletes exactly this object without a grace period.
    #[must_use]
    pub fn delete_now<K: Object>(object: &K) -> Self
    where
        K::Scope: 'static,
    {
        Self::Delete {
            target: Target::of(object),
            options: DeleteOptions {
                uid: object.metadata().uid.clone(),
                grace_period_seconds: Some(0),
                ..DeleteOptions::default()
            },
        }
    }

    /// An event about `object`.
    #[must_use]
    pub fn event<K: Object>(object: &K, warning: bool, reason: &'static str, message: String) -> Self
    where
        K::Scope: 'static,
    {
        let meta = object.metadata();
        Self::Event {
            involved: Box::new(ObjectReference {
                api_version: Some(K::API_VERSION.to_owned()),
                kind: Some(K::KIND.to_owned()),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            }),
            warning,
            reason,
            message,
        }
    }
}

/// Prints what is done to which object, never the object: it may be a Secret.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify { target, .. } => write!(f, "verify {target}"),
            Self::Create { target, .. } => write!(f, "create {target}"),
            Self::Update { target, subresource: None, .. } => write!(f, "update {target}"),
            Self::Update { target, subresource: Some(part), .. } => {
                write!(f, "update {target} {part}")
            }
            Self::Patch { target, subresource: None, .. } => write!(f, "patch {target}"),
            Self::Patch { target, subresource: Some(part), .. } => {
                write!(f, "patch {target} {part}")
            }
            Self::Delete { target, options } => match options.grace_period_seconds {
                Some(0) => write!(f, "delete {target} now"),
                _ => write!(f, "delete {target}"),
            },
            Self::DeleteAll { resource, namespace } => {
                write!(f, "delete all {resource} in {namespace}")
            }
            Self::Sign { target, .. } => write!(f, "sign {target}"),
            Self::FillToken { target, .. } => write!(f, "fill token {target}"),
            Self::Event { reason, message, .. } => write!(f, "event {reason}: {message}"),
            Self::Wake { after } => write!(f, "wake after {after:?}"),
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn to_value<K: Object + Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).expect("API types have string keys and serialize to JSON");
    value["apiVersion"] = json!(K::API_VERSION);
    value["kind"] = json!(K::KIND);
    value
}
