//! The built-in admission plugins, pure, in upstream's order (kubernetes `pkg/kubeapiserver/options/plugins.go`).
//!
//! [`mutate`] runs before defaulting ends, [`validate`] after the strategy has validated. What a plugin looks up it asks
//! of a [`Snapshot`].

mod limits;
mod namespace;
mod node;
mod pod;
mod rights;
mod service_account;

use std::sync::Arc;

use serde_json::Value;
use xebec_api::{GroupResource, Status};

pub use rights::{Right, required_rights};

use crate::context::RequestContext;

/// What a request does, as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a POST to a subresource.
    Create,
    /// PUT, PATCH, apply.
    Update,
    /// DELETE.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// Objects as the server's caches have them now. The server must look at the store itself before it says that a
/// namespace or service account does not exist.
pub trait Snapshot {
    /// One object; `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a namespace, or all of a cluster-scoped resource.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
}

/// One request before admission.
pub struct Request<'a> {
    /// What is done.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a GroupResource,
    /// To which subresource, empty for none.
    pub subresource: &'a str,
    /// Where, empty at cluster scope.
    pub namespace: &'a str,
    /// To which object; empty where the name is still to be generated.
    pub name: &'a str,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a Value>,
    /// Who, when.
    pub ctx: &'a RequestContext,
}

impl Request<'_> {
    fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.is(group, resource)
    }

    fn forbidden(&self, why: impl AsRef<str>) -> Status {
        Status::forbidden(self.resource, self.name, why.as_ref())
    }
}

/// Runs the plugins that may change the object (`Null` for deletes).
///
/// # Errors
/// The Status that refuses the request.
pub fn mutate(snapshot: &dyn Snapshot, request: &Request<'_>, object: &mut Value) -> Result<(), Status> {
    namespace::lifecycle(snapshot, request)?;
    node::taint_new(request, object);
    limits::default_limits(snapshot, request, object);
    service_account::admit(snapshot, request, object)?;
    node::restrict(snapshot, request, object)?;
    pod::priority(snapshot, request, object)?;
    pod::toleration_seconds(request, object);
    pod::default_storage_class(snapshot, request, object);
    pod::runtime_class(snapshot, request, object)
}

/// Runs the plugins that only refuse.
///
/// # Errors
/// The Status that refuses the request.
pub fn validate(snapshot: &dyn Snapshot, request: &Request<'_>, object: &Value) -> Result<(), Status> {
    limits::check_limits(snapshot, request, object)
}

#[cfg(test)]
pub(crate) mod test_world {
    use super::*;
    use std::collections::BTreeMap;

    /// Objects by `group/resource/namespace/name`.
    #[derive(Default)]
    pub struct World(BTreeMap<String, Arc<Value>>);

    impl World {
        pub fn with(mut self, key: &str, object: Value) -> Self {
            self.0.insert(key.into(), Arc::new(object));
            self
        }
    }

    impl Snapshot for World {
        fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
            self.0.get(&format!("{group}/{resource}/{namespace}/{name}")).cloned()
        }

        fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
            let prefix = format!("{group}/{resource}/{namespace}/");
            self.0.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone()).collect()
        }
    }
}
