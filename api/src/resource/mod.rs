//! The built-in resources: a row each.
//!
//! The data is `facts/v1_35.resources`, which explains its format; `tests/swagger.rs` compares it with upstream's
//! OpenAPI document.

mod parse;

use std::sync::LazyLock;

use crate::gvk::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};

/// What every key of the API begins with.
pub const REGISTRY: &str = "/registry";

/// What can be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// POST.
    Create,
    /// DELETE of one.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// GET of one.
    Get,
    /// GET of a collection.
    List,
    /// PATCH.
    Patch,
    /// PUT.
    Update,
    /// GET of changes.
    Watch,
}

impl Verb {
    /// As RBAC and discovery spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// Where objects of a resource are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Under this prefix, without slash at the end: `/registry/pods`.
    Stored {
        /// The prefix.
        prefix: String,
    },
    /// Nowhere: answered from what is known (reviews, bindings, component statuses).
    Virtual,
}

/// A part of an object with a URL of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `exec`.
    pub name: &'static str,
    /// Group of what is exchanged.
    pub group: &'static str,
    /// Version of what is exchanged.
    pub version: &'static str,
    /// Kind of what is exchanged.
    pub kind: &'static str,
    /// What can be done.
    pub verbs: Box<[Verb]>,
}

/// One resource in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group, `""` for core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `DeploymentList`; empty if it cannot be listed.
    pub list_kind: String,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: String,
    /// `deploy`.
    pub short_names: Box<[&'static str]>,
    /// `all`.
    pub categories: Box<[&'static str]>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done, sorted.
    pub verbs: Box<[Verb]>,
    /// Its subresources, sorted by name.
    pub subresources: Box<[Subresource]>,
    /// Where its objects are kept.
    pub storage: Storage,
    /// Group of the version its objects are stored in: another for cohabiting resources (`events`).
    pub storage_group: &'static str,
    /// Version its objects are stored in.
    pub storage_version: &'static str,
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    parse::parse(include_str!("../../facts/v1_35.resources"))
        .expect("the embedded table is well-formed, as a test shows")
});

/// All built-in resources, the core group first.
pub fn resources() -> &'static [Resource] {
    &RESOURCES
}

/// The resource at a URL: group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    resources()
        .iter()
        .find(|resource| resource.plural == plural && resource.group == group && resource.version == version)
}

/// The resource of a kind.
pub fn find_kind(gvk: &GroupVersionKind) -> Option<&'static Resource> {
    resources()
        .iter()
        .find(|resource| resource.kind == gvk.kind && resource.group == gvk.group && resource.version == gvk.version)
}

/// The resource of this name in whatever version it is stored.
pub fn find_any_version(group: &str, plural: &str) -> Option<&'static Resource> {
    let mut versions = resources().iter().filter(|resource| resource.plural == plural && resource.group == group);
    let first = versions.next()?;
    Some(
        versions
            .find(|other| other.version == first.storage_version)
            .filter(|_| first.version != first.storage_version)
            .unwrap_or(first),
    )
}

/// All group versions, the core group first, the preferred version of a group first.
pub fn group_versions() -> Vec<GroupVersion> {
    let mut all: Vec<GroupVersion> = Vec::new();
    for resource in resources() {
        let version = resource.group_version();
        if !all.contains(&version) {
            all.push(version);
        }
    }
    all.sort_by(|a, b| a.group.cmp(&b.group).then_with(|| stability(&b.version).cmp(&stability(&a.version))));
    all
}

/// What prefers one version to another: stable ones, the newest first, then betas, then alphas (apimachinery
/// `version.CompareKubeAwareVersionStrings`).
fn stability(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let text = version.trim_start_matches('v');
    if let Some((major, minor)) = text.split_once("beta") {
        return (1, number(major), number(minor));
    }
    match text.split_once("alpha") {
        Some((major, minor)) => (0, number(major), number(minor)),
        None => (2, number(text), 0),
    }
}

impl Resource {
    /// Its kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    /// The kind of its lists.
    pub fn list_gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, &*self.list_kind)
    }

    /// Its kind in the version it is stored in.
    pub fn storage_gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.storage_group, self.storage_version, self.kind)
    }

    /// Its place in the URL space.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.plural)
    }

    /// Its group and plural, as messages name it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    /// Its group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group, self.version)
    }

    /// Whether its objects are stored.
    pub fn is_stored(&self) -> bool {
        matches!(self.storage, Storage::Stored { .. })
    }

    /// Whether it has this verb.
    pub fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Its subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// The prefix of its keys, without slash at the end; `None` if it is not stored.
    pub fn storage_prefix(&self) -> Option<&str> {
        match &self.storage {
            Storage::Stored { prefix } => Some(prefix),
            Storage::Virtual => None,
        }
    }

    /// The prefix of the keys in one namespace (all, if `namespace` is empty), with slash at the end.
    pub fn list_prefix(&self, namespace: &str) -> Option<String> {
        let prefix = self.storage_prefix()?;
        Some(if self.namespaced && !namespace.is_empty() {
            format!("{prefix}/{namespace}/")
        } else {
            format!("{prefix}/")
        })
    }

    /// The key of one object.
    pub fn storage_key(&self, namespace: &str, name: &str) -> Option<String> {
        self.list_prefix(namespace).map(|prefix| prefix + name)
    }
}

impl Subresource {
    /// The kind that is exchanged.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_upstreams() {
        for (group, version, plural, namespace, key) in [
            ("", "v1", "pods", "ns", "/registry/pods/ns/x"),
            ("", "v1", "nodes", "", "/registry/minions/x"),
            ("", "v1", "services", "ns", "/registry/services/specs/ns/x"),
            ("", "v1", "endpoints", "ns", "/registry/services/endpoints/ns/x"),
            ("", "v1", "replicationcontrollers", "ns", "/registry/controllers/ns/x"),
            ("apps", "v1", "deployments", "ns", "/registry/deployments/ns/x"),
            ("networking.k8s.io", "v1", "ingresses", "ns", "/registry/ingress/ns/x"),
            ("events.k8s.io", "v1", "events", "ns", "/registry/events/ns/x"),
            ("apiregistration.k8s.io", "v1", "apiservices", "", "/registry/apiregistration.k8s.io/apiservices/x"),
            ("rbac.authorization.k8s.io", "v1", "clusterroles", "", "/registry/clusterroles/x"),
        ] {
            assert_eq!(
                find(group, version, plural).and_then(|resource| resource.storage_key(namespace, "x")).as_deref(),
                Some(key)
            );
        }
        assert!(!find("authentication.k8s.io", "v1", "tokenreviews").unwrap().is_stored());
    }

    #[test]
    fn cohabiting_resources_share_their_storage() {
        let events = find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(events.storage_gvk(), GroupVersionKind::new("", "v1", "Event"));
        assert_eq!(find_any_version("autoscaling", "horizontalpodautoscalers").map(|r| r.version), Some("v2"));
        assert_eq!(
            group_versions().iter().filter(|gv| gv.group == "autoscaling").map(|gv| &*gv.version).collect::<Vec<_>>(),
            ["v2", "v1"]
        );
    }

    #[test]
    fn stable_versions_are_preferred_to_newer_ones_that_are_not() {
        let mut versions = ["v1alpha1", "v1", "v2beta1", "v1beta2", "v10", "v2", "v1beta10"];
        versions.sort_by_key(|version| std::cmp::Reverse(stability(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1"]);
        assert_eq!(
            group_versions().iter().find(|gv| gv.group == "coordination.k8s.io").map(|gv| &*gv.version),
            Some("v1")
        );
    }

    #[test]
    fn every_resource_has_schema_facts() {
        for resource in resources() {
            assert!(crate::facts::facts().kind(&resource.gvk()).is_some(), "{}", resource.gvk());
            if !resource.list_kind.is_empty() {
                assert!(crate::facts::facts().kind(&resource.list_gvk()).is_some(), "{}", resource.list_gvk());
            }
            for subresource in &resource.subresources {
                assert!(crate::facts::facts().kind(&subresource.gvk()).is_some(), "{}", subresource.gvk());
            }
        }
    }
}
