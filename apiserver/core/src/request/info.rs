//! Method and path to verb and resource (apiserver `pkg/endpoints/request/requestinfo.go`).

use std::fmt;

use super::options::Query;

/// Names under `namespaces/{name}/` that are subresources of the Namespace itself, not resources in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// A collection's changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// A method that Kubernetes has no verb for.
    Other,
}

impl Verb {
    /// As authorization and audit name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "",
        }
    }

    /// Whether the verb changes nothing.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request's place in the URL space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it concerns a resource; otherwise only `path` and `method_verb` mean something.
    pub is_resource: bool,
    /// The path as it came.
    pub path: String,
    /// The verb of a resource request.
    pub verb: Verb,
    /// The lower-cased method: the verb of a non-resource request.
    pub method_verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// The API group, empty for core.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The namespace, empty for cluster-scoped resources and for collections over all namespaces.
    pub namespace: String,
    /// The resource, lower-case plural.
    pub resource: String,
    /// The subresource, empty for the object itself.
    pub subresource: String,
    /// The object's name, empty for collections.
    pub name: String,
    /// Path segments from the resource on: `[pods, a, proxy, x, y]`.
    pub parts: Vec<String>,
}

impl RequestInfo {
    /// Reads method, (percent-decoded) path and query.
    pub fn new(method: &str, path: &str, query: &Query) -> Self {
        let mut info = Self::bare(method, path);
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let Some(rest) = info.take_group_version(&segments) else { return info };
        let (rest, watch_prefix) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (rest, true),
            rest => (rest, false),
        };
        info.is_resource = true;
        info.take_resource(rest);
        info.verb = match method {
            "POST" => Verb::Create,
            "GET" | "HEAD" => Verb::Get,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" => Verb::Delete,
            _ => Verb::Other,
        };
        info.refine_collection_verb(query, watch_prefix);
        info
    }

    fn bare(method: &str, path: &str) -> Self {
        Self {
            is_resource: false,
            path: path.to_owned(),
            verb: Verb::Other,
            method_verb: method.to_ascii_lowercase(),
            api_prefix: String::new(),
            api_group: String::new(),
            api_version: String::new(),
            namespace: String::new(),
            resource: String::new(),
            subresource: String::new(),
            name: String::new(),
            parts: Vec::new(),
        }
    }

    /// Strips `/api/{version}` or `/apis/{group}/{version}`; `None` when no resource follows.
    fn take_group_version<'a, 'p>(&mut self, segments: &'a [&'p str]) -> Option<&'a [&'p str]> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return None,
        };
        self.api_prefix = segments[0].to_owned();
        self.api_group = group.to_owned();
        self.api_version = version.to_owned();
        Some(rest)
    }

    fn take_resource(&mut self, rest: &[&str]) {
        let mut parts = rest;
        if let ["namespaces", namespace, after @ ..] = rest {
            self.namespace = (*namespace).to_owned();
            if let [resource, ..] = after
                && !NAMESPACE_SUBRESOURCES.contains(resource)
            {
                parts = after;
            }
        }
        self.parts = parts.iter().map(|part| (*part).to_owned()).collect();
        let at = |n: usize| parts.get(n).map_or(String::new(), |part| (*part).to_owned());
        self.resource = at(0);
        self.name = at(1);
        self.subresource = at(2);
    }

    /// GET of a collection lists or watches, DELETE of one deletes the collection. A field selector on
    /// `metadata.name` names the object, so that a rule with resourceNames can allow the list.
    fn refine_collection_verb(&mut self, query: &Query, watch_prefix: bool) {
        if watch_prefix && self.verb == Verb::Get {
            self.verb = Verb::Watch;
            return;
        }
        if !self.name.is_empty() {
            return;
        }
        self.verb = match self.verb {
            Verb::Get if query.flag("watch") => Verb::Watch,
            Verb::Get => Verb::List,
            Verb::Delete => Verb::DeleteCollection,
            other => other,
        };
        if matches!(self.verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
            && let Some(name) = query.get("fieldSelector").and_then(name_in_field_selector)
        {
            self.name = name;
        }
    }
}

fn name_in_field_selector(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty() && !value.contains(['/', '%'])).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').expect("method and target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let i = RequestInfo::new(method, path, &Query::parse(query));
        let got = if i.is_resource {
            format!(
                "{} {}/{} ns={} {}/{} {}",
                i.verb, i.api_group, i.api_version, i.namespace, i.resource, i.subresource, i.name
            )
        } else {
            format!("{} {}", i.method_verb, i.path)
        };
        assert_eq!(got, expected, "{request}");
    }

    #[test]
    fn paths_become_resources() {
        check("GET /api/v1/namespaces", "list /v1 ns= namespaces/ ");
        check("GET /api/v1/namespaces/other", "get /v1 ns=other namespaces/ other");
        check("PUT /api/v1/namespaces/other/finalize", "update /v1 ns=other namespaces/finalize other");
        check("GET /api/v1/namespaces/other/pods", "list /v1 ns=other pods/ ");
        check("GET /api/v1/namespaces/other/pods?watch=true", "watch /v1 ns=other pods/ ");
        check("GET /api/v1/namespaces/other/pods?watch=0", "list /v1 ns=other pods/ ");
        check("GET /api/v1/watch/namespaces/other/pods", "watch /v1 ns=other pods/ ");
        check("GET /api/v1/pods?fieldSelector=metadata.name%3Da", "list /v1 ns= pods/ a");
        check("DELETE /api/v1/namespaces/other/pods", "deletecollection /v1 ns=other pods/ ");
        check("DELETE /api/v1/namespaces/other/pods/foo", "delete /v1 ns=other pods/ foo");
        check("PATCH /apis/apps/v1/namespaces/d/deployments/x/scale", "patch apps/v1 ns=d deployments/scale x");
        check(
            "POST /apis/rbac.authorization.k8s.io/v1/clusterroles",
            "create rbac.authorization.k8s.io/v1 ns= clusterroles/ ",
        );
        check("GET /apis/apps/v1", "get /apis/apps/v1");
        check("GET /api/v1", "get /api/v1");
        check("GET /healthz", "get /healthz");
    }
}
