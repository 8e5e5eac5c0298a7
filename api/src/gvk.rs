//! Names of kinds and resources.

use std::fmt;
use std::str::FromStr;

/// An API group (empty for the core group) and a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// `""` for the core group, `"apps"`, `"rbac.authorization.k8s.io"`.
    pub group: String,
    /// `"v1"`, `"v1beta1"`.
    pub version: String,
}

/// A group and a kind, without version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// The API group, empty for core.
    pub group: String,
    /// CamelCase singular, `"Deployment"`.
    pub kind: String,
}

/// A group and a resource (lower-case plural), without version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// The API group, empty for core.
    pub group: String,
    /// Lower-case plural, `"deployments"`.
    pub resource: String,
}

/// Identifies a type of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// The API group, empty for core.
    pub group: String,
    /// The API version.
    pub version: String,
    /// CamelCase singular.
    pub kind: String,
}

/// Identifies a collection of objects in the URL space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// The API group, empty for core.
    pub group: String,
    /// The API version.
    pub version: String,
    /// Lower-case plural.
    pub resource: String,
}

/// An `apiVersion` with more than one slash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

impl GroupVersion {
    /// Builds one from its parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// Adds a kind.
    pub fn with_kind(&self, kind: impl Into<String>) -> GroupVersionKind {
        GroupVersionKind::new(&*self.group, &*self.version, kind)
    }

    /// Adds a resource.
    pub fn with_resource(&self, resource: impl Into<String>) -> GroupVersionResource {
        GroupVersionResource::new(&*self.group, &*self.version, resource)
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.version) } else { write!(f, "{}/{}", self.group, self.version) }
    }
}

impl FromStr for GroupVersion {
    type Err = ParseGroupVersionError;

    /// As apimachinery's `schema.ParseGroupVersion`: `""` and `"/"` are the empty version.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text == "/" {
            return Ok(Self::default());
        }
        match text.matches('/').count() {
            0 => Ok(Self::new("", text)),
            1 => {
                let (group, version) = text.split_once('/').unwrap_or(("", text));
                Ok(Self::new(group, version))
            }
            _ => Err(ParseGroupVersionError(text.to_owned())),
        }
    }
}

impl GroupKind {
    /// Builds one from its parts.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

impl GroupResource {
    /// Builds one from its parts.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl GroupVersionKind {
    /// Builds one from its parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From an object's `apiVersion` and `kind`.
    pub fn from_api_version(api_version: &str, kind: &str) -> Result<Self, ParseGroupVersionError> {
        Ok(api_version.parse::<GroupVersion>()?.with_kind(kind))
    }

    /// What stands in an object's `apiVersion`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// Without the kind.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&*self.group, &*self.version)
    }

    /// Without the version.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&*self.group, &*self.kind)
    }
}

impl fmt::Display for GroupVersionKind {
    /// As Go prints `schema.GroupVersionKind`: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl GroupVersionResource {
    /// Builds one from its parts.
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// Without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&*self.group, &*self.resource)
    }

    /// Without the resource.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&*self.group, &*self.version)
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_parse_as_apimachinery_does() {
        assert_eq!("v1".parse(), Ok(GroupVersion::new("", "v1")));
        assert_eq!("apps/v1".parse(), Ok(GroupVersion::new("apps", "v1")));
        assert_eq!("".parse(), Ok(GroupVersion::default()));
        assert_eq!("a/b/c".parse::<GroupVersion>(), Err(ParseGroupVersionError("a/b/c".into())));
        assert_eq!(GroupVersion::new("", "v1").to_string(), "v1");
        assert_eq!(GroupResource::new("apps", "deployments").to_string(), "deployments.apps");
    }
}
