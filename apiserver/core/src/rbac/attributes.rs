//! What an authorizer is asked, and its answer.

use crate::context::User;
use crate::request::RequestInfo;

/// The question: may this user do this?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// `get`, `list`, ..., or the lower-cased method for paths.
    pub verb: &'a str,
    /// Whether a resource is asked for; otherwise only `path` counts.
    pub resource_request: bool,
    /// The namespace, empty at cluster scope.
    pub namespace: &'a str,
    /// The API group.
    pub api_group: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// The subresource, empty for none.
    pub subresource: &'a str,
    /// The object's name, empty for collections.
    pub name: &'a str,
    /// The URL path.
    pub path: &'a str,
}

impl<'a> Attributes<'a> {
    /// Of a request.
    pub fn of_request(user: &'a User, info: &'a RequestInfo) -> Self {
        Self {
            user,
            verb: if info.is_resource { info.verb.as_str() } else { &info.method_verb },
            resource_request: info.is_resource,
            namespace: &info.namespace,
            api_group: &info.api_group,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            path: &info.path,
        }
    }

    /// Of a question about a resource.
    pub fn of_resource(
        user: &'a User,
        verb: &'a str,
        api_group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Self {
        Self { user, verb, resource_request: true, namespace, api_group, resource, subresource: "", name, path: "" }
    }

    /// `resource` or `resource/subresource`.
    pub fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// This authorizer knows no reason to allow it; the next one is asked.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason for it.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// Upstream's sentence for a refusal (apiserver `handlers/responsewriters/errors.go`). The Status message wraps it:
/// `pods is forbidden: <this>`; for paths it is `forbidden: <this>`.
pub fn forbidden_message(attributes: &Attributes<'_>, reason: &str) -> String {
    let user = &attributes.user.name;
    let verb = attributes.verb;
    let base = if !attributes.resource_request {
        format!("User {user:?} cannot {verb} path {:?}", attributes.path)
    } else {
        let resource = attributes.combined_resource();
        let group = attributes.api_group;
        let place = if attributes.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", attributes.namespace)
        };
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}")
    };
    if reason.is_empty() { base } else { format!("{base}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream() {
        let user = User::new("x", &[]);
        let a = Attributes::of_resource(&user, "list", "", "pods", "y", "");
        assert_eq!(
            forbidden_message(&a, ""),
            r#"User "x" cannot list resource "pods" in API group "" in the namespace "y""#
        );
        let a = Attributes { subresource: "status", ..Attributes::of_resource(&user, "patch", "", "nodes", "", "n") };
        assert_eq!(
            forbidden_message(&a, "why"),
            r#"User "x" cannot patch resource "nodes/status" in API group "" at the cluster scope: why"#
        );
        let a = Attributes { resource_request: false, path: "/metrics", verb: "get", ..a };
        assert_eq!(forbidden_message(&a, ""), r#"User "x" cannot get path "/metrics""#);
    }
}
