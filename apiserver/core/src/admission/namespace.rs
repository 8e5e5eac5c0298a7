//! NamespaceLifecycle: nothing is made in namespaces that are absent or on their way out.

use xebec_api::status::Cause;
use xebec_api::{GroupResource, Status, meta};

use super::{Operation, Request, Snapshot};

/// Namespaces that stay.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn lifecycle(snapshot: &dyn Snapshot, request: &Request<'_>) -> Result<(), Status> {
    if request.operation == Operation::Delete && request.is("", "namespaces") && IMMORTAL.contains(&request.name) {
        return Err(request.forbidden("this namespace may not be deleted"));
    }
    let reviews = request.is("authorization.k8s.io", "localsubjectaccessreviews");
    let inside = !request.namespace.is_empty() && !request.is("", "namespaces");
    if request.operation != Operation::Create || !inside || reviews {
        return Ok(());
    }
    let Some(namespace) = snapshot.get("", "namespaces", "", request.namespace) else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), request.namespace));
    };
    let terminating = meta::str_at(&namespace, &["status", "phase"]) == "Terminating"
        || meta::deletion_timestamp(&namespace).is_some();
    if !terminating || request.is("events.k8s.io", "events") && request.name.is_empty() {
        return Ok(());
    }
    let name = request.namespace;
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".into(),
    };
    Err(request.forbidden(why).with_cause(cause))
}

#[cfg(test)]
mod tests {
    use super::super::test_world::World;
    use super::*;
    use crate::context::{User, test_context};
    use serde_json::json;

    fn check(operation: Operation, resource: &str, namespace: &str, name: &str) -> Result<(), String> {
        let world = World::default()
            .with("/namespaces//ok", json!({"status": {"phase": "Active"}}))
            .with("/namespaces//dying", json!({"status": {"phase": "Terminating"}}));
        let ctx = test_context(User::default());
        let resource = GroupResource::new("", resource);
        let request =
            Request { operation, resource: &resource, subresource: "", namespace, name, old: None, ctx: &ctx };
        lifecycle(&world, &request).map_err(|status| status.message)
    }

    #[test]
    fn namespaces_must_be_there_and_alive() {
        assert_eq!(check(Operation::Create, "pods", "ok", "p"), Ok(()));
        assert_eq!(check(Operation::Create, "pods", "none", "p"), Err("namespaces \"none\" not found".into()));
        assert_eq!(
            check(Operation::Create, "pods", "dying", "p"),
            Err("pods \"p\" is forbidden: unable to create new content in namespace dying because it is being terminated".into())
        );
        assert_eq!(check(Operation::Update, "pods", "dying", "p"), Ok(()));
        assert_eq!(
            check(Operation::Delete, "namespaces", "default", "default"),
            Err("namespaces \"default\" is forbidden: this namespace may not be deleted".into())
        );
    }
}
