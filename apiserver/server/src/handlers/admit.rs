//! Admission: brings the pure plugins what they look up.

use super::Call;
use crate::cache::Snapshot as Cached;
use crate::registry::Served;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use xebec_api::{Status, meta};
use xebec_apiserver_core::admission::{self, Operation, Request, Snapshot, required_rights};
use xebec_apiserver_core::rbac::Attributes;

/// Time admission waits for a cache that it has just started.
const FILL_WAIT: Duration = Duration::from_secs(2);
/// What plugins list or look up in the caches, by the resource admitted.
const OF_PODS: [(&str, &str); 3] =
    [("", "limitranges"), ("scheduling.k8s.io", "priorityclasses"), ("node.k8s.io", "runtimeclasses")];
const OF_CLAIMS: [(&str, &str); 2] = [("", "limitranges"), ("storage.k8s.io", "storageclasses")];

/// The world as the plugins may see it: caches, and what was looked up in the store beforehand.
#[derive(Default)]
struct World {
    caches: HashMap<(String, String), (Arc<Served>, Cached)>,
    fetched: HashMap<(String, String, String), Arc<Value>>,
}

impl World {
    /// What the plugins need for this request.
    async fn of(call: &Call, operation: Operation, object: &Value) -> Result<Self, Status> {
        let mut world = Self::default();
        let core = call.served.row.gvk.group.is_empty();
        let resource = call.served.row.resource.resource.as_str();
        let namespace = call.info.namespace.as_str();
        if operation == Operation::Create && !namespace.is_empty() {
            world.fetch(call, "namespaces", "", namespace).await?;
        }
        if core && resource == "pods" {
            world.cache(call, &OF_PODS).await?;
            if operation == Operation::Create {
                let account = meta::str_at(object, &["spec", "serviceAccountName"]);
                world
                    .fetch(call, "serviceaccounts", namespace, if account.is_empty() { "default" } else { account })
                    .await?;
            }
        }
        if core && resource == "persistentvolumeclaims" {
            world.cache(call, &OF_CLAIMS).await?;
        }
        if call.ctx.user.node_name().is_some() {
            let pod = meta::str_at(object, &["spec", "boundObjectRef", "name"]);
            for name in
                [call.info.name.as_str(), pod].into_iter().filter(|name| !name.is_empty() && !namespace.is_empty())
            {
                world.fetch(call, "pods", namespace, name).await?;
            }
        }
        Ok(world)
    }

    async fn cache(&mut self, call: &Call, wanted: &[(&str, &str)]) -> Result<(), Status> {
        for (group, resource) in wanted {
            let Some(served) = call.app.objects.registry.preferred(group, resource) else { continue };
            let cache = call.app.objects.cache(served);
            if !cache.wait(1, FILL_WAIT).await {
                return Err(
                    Status::service_unavailable(format!("{resource} are not known yet")).with_retry_after_seconds(1)
                );
            }
            let key = ((*group).to_owned(), (*resource).to_owned());
            self.caches.insert(key, (Arc::clone(served), cache.snapshot().0));
        }
        Ok(())
    }

    async fn fetch(&mut self, call: &Call, resource: &str, namespace: &str, name: &str) -> Result<(), Status> {
        if let Some(found) = call.app.objects.cached("", resource, namespace, name).await? {
            self.fetched.insert((resource.to_owned(), namespace.to_owned(), name.to_owned()), Arc::new(found));
        }
        Ok(())
    }
}

impl Snapshot for World {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        if let Some((served, snapshot)) = self.caches.get(&(group.to_owned(), resource.to_owned())) {
            let entry = snapshot.get(served.local_key(namespace, name).as_str())?;
            return Some(Arc::new(served.typed(entry.value())));
        }
        let fetched = || self.fetched.get(&(resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned();
        group.is_empty().then(fetched).flatten()
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some((served, snapshot)) = self.caches.get(&(group.to_owned(), resource.to_owned())) else {
            return Vec::new();
        };
        let prefix = served.local_prefix(namespace);
        let range = snapshot.range(Arc::<str>::from(prefix.as_str())..).take_while(|(key, _)| key.starts_with(&prefix));
        range.map(|(_, entry)| Arc::new(served.typed(entry.value()))).collect()
    }
}

fn request<'a>(call: &'a Call, operation: Operation, name: &'a str, old: Option<&'a Value>) -> Request<'a> {
    Request {
        operation,
        resource: &call.served.row.resource,
        subresource: &call.info.subresource,
        namespace: &call.info.namespace,
        name,
        old,
        ctx: &call.ctx,
    }
}

fn operation(old: Option<&Value>) -> Operation {
    if old.is_some() { Operation::Update } else { Operation::Create }
}

/// Runs the plugins that may change the object.
pub async fn mutate(call: &Call, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let operation = operation(old);
    let world = World::of(call, operation, object).await?;
    let name = meta::name(object).to_owned();
    admission::mutate(&world, &request(call, operation, &name, old), object)
}

/// Runs the plugins that only refuse, and the checks of rights that depend on the object.
pub async fn validate(call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let operation = operation(old);
    let world = World::of(call, operation, object).await?;
    let name = meta::name(object);
    let request = request(call, operation, name, old);
    admission::validate(&world, &request, object)?;
    let resource = &call.served.row.resource;
    for right in required_rights(&request, object) {
        let held = right.names.iter().any(|name| {
            let asked = Attributes::of_resource(&call.ctx.user, right.verb, right.api_group, right.resource, "", name);
            call.app.authorizer.decide(&asked).is_allowed()
        });
        if !held {
            return Err(Status::forbidden(resource, name, &right.refusal));
        }
    }
    if resource.group == "rbac.authorization.k8s.io" && call.info.subresource.is_empty() {
        let checked = call.app.authorizer.escalation(&call.ctx.user, object, old);
        return checked.map_err(|why| Status::forbidden(resource, name, &why));
    }
    Ok(())
}

/// Runs the plugins on a delete.
pub async fn validate_delete(call: &Call, stored: &Value) -> Result<(), Status> {
    let world = World::of(call, Operation::Delete, stored).await?;
    let name = meta::name(stored);
    admission::mutate(&world, &request(call, Operation::Delete, name, Some(stored)), &mut Value::Null)
}
