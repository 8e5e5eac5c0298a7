//! TaintNodesByCondition and NodeRestriction.

use serde_json::{Value, json};
use xebec_api::{Status, meta};

use super::{Operation, Request, Snapshot};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Labels of these domains a node may set on itself (KEP-279's list).
const OWN_LABELS: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// A new node gets no pods before it is ready.
pub(super) fn taint_new(request: &Request<'_>, node: &mut Value) {
    if !request.creates("", "nodes") {
        return;
    }
    let mut taints = meta::list_at(node, &["spec", "taints"]).to_vec();
    if !taints.iter().any(|t| meta::str_at(t, &["key"]) == NOT_READY && meta::str_at(t, &["effect"]) == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        meta::set(node, &["spec", "taints"], taints.into());
    }
}

/// A kubelet writes itself and its pods (kubernetes `plugin/pkg/admission/noderestriction`).
pub(super) fn restrict(snapshot: &dyn Snapshot, request: &Request<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = request.ctx.user.node_name() else { return Ok(()) };
    match (request.resource.group.as_str(), request.resource.resource.as_str(), request.subresource) {
        ("", "pods", "") => own_pod(request, object, node),
        ("", "pods", "status") => {
            let bound = request.old.map_or("", |pod| meta::str_at(pod, &["spec", "nodeName"]));
            if bound == node {
                return Ok(());
            }
            Err(request.forbidden(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            )))
        }
        ("", "pods", "eviction") => match snapshot.get("", "pods", request.namespace, request.name) {
            Some(pod) if meta::str_at(&pod, &["spec", "nodeName"]) == node => Ok(()),
            _ => Err(request.forbidden(format!("node {node} can only evict pods with spec.nodeName set to itself"))),
        },
        ("", "nodes", _) => own_node(request, object, node),
        ("", "serviceaccounts", "token") => bound_token(snapshot, request, object, node),
        ("coordination.k8s.io", "leases", _) => {
            let name = if request.name.is_empty() { meta::name(object) } else { request.name };
            if request.namespace == "kube-node-lease" && name == node {
                return Ok(());
            }
            Err(request.forbidden("can only access node lease with the same name as the requesting node"))
        }
        ("storage.k8s.io", "csinodes", _) if request.name != node && meta::name(object) != node => {
            Err(request.forbidden("can only access CSINode with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn own_pod(request: &Request<'_>, pod: &Value, node: &str) -> Result<(), Status> {
    match request.operation {
        Operation::Create => {
            if meta::annotation(pod, "kubernetes.io/config.mirror").is_none() {
                return Err(request.forbidden(format!("pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods")));
            }
            if meta::str_at(pod, &["spec", "nodeName"]) != node {
                return Err(
                    request.forbidden(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
                );
            }
            let account = meta::str_at(pod, &["spec", "serviceAccountName"]);
            if !account.is_empty() {
                return Err(
                    request.forbidden(format!("node {node:?} can not create pods that reference a service account"))
                );
            }
            Ok(())
        }
        Operation::Delete => {
            if request.old.is_some_and(|pod| meta::str_at(pod, &["spec", "nodeName"]) != node) {
                return Err(
                    request.forbidden(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
                );
            }
            Ok(())
        }
        _ => {
            Err(request
                .forbidden(format!("unexpected operation, node {node:?} can only create and delete mirror pods")))
        }
    }
}

fn own_node(request: &Request<'_>, object: &Value, node: &str) -> Result<(), Status> {
    let name = if request.name.is_empty() { meta::name(object) } else { request.name };
    if name != node {
        return Err(request.forbidden(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    if request.operation == Operation::Update {
        let old = request.old.unwrap_or(&Value::Null);
        if meta::get(object, &["spec", "taints"]) != meta::get(old, &["spec", "taints"])
            && request.subresource.is_empty()
        {
            return Err(request.forbidden(format!("node {node:?} is not allowed to modify taints")));
        }
        if meta::get(object, &["metadata", "ownerReferences"]) != meta::get(old, &["metadata", "ownerReferences"]) {
            return Err(request.forbidden(format!("node {node:?} is not allowed to modify ownerReferences")));
        }
    }
    let mut forbidden: Vec<&str> =
        changed_labels(object, request.old).into_iter().filter(|key| reserved_label(key)).collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    forbidden.sort_unstable();
    let verb = if request.operation == Operation::Create { "set" } else { "modify" };
    Err(request.forbidden(format!("is not allowed to {verb} the following labels: {}", forbidden.join(", "))))
}

fn changed_labels<'a>(new: &'a Value, old: Option<&'a Value>) -> Vec<&'a str> {
    let labels = |object: Option<&'a Value>| object.and_then(meta::labels);
    let before = labels(old);
    let after = labels(Some(new));
    let value =
        |labels: Option<&'a serde_json::Map<String, Value>>, key: &str| labels.and_then(|l| l.get(key)).cloned();
    let keys = before.into_iter().chain(after).flat_map(|labels| labels.keys());
    keys.filter(|key| value(before, key) != value(after, key)).map(String::as_str).collect()
}

fn reserved_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let of = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    if of("node-restriction.kubernetes.io") {
        return true;
    }
    if of("kubelet.kubernetes.io") || of("node.kubernetes.io") || key == "topology.kubernetes.io/region" {
        return false;
    }
    (of("kubernetes.io") || of("k8s.io")) && !OWN_LABELS.contains(&key)
}

/// A node asks for tokens of its own pods only, bound to them.
fn bound_token(snapshot: &dyn Snapshot, request: &Request<'_>, token: &Value, node: &str) -> Result<(), Status> {
    let reference = &token["spec"]["boundObjectRef"];
    if meta::kind(reference) != "Pod" || meta::str_at(reference, &["name"]).is_empty() {
        return Err(request.forbidden("node requested token not bound to a pod"));
    }
    let uid = meta::str_at(reference, &["uid"]);
    if uid.is_empty() {
        return Err(request.forbidden("node requested token with a pod binding without a uid"));
    }
    let pod = snapshot.get("", "pods", request.namespace, meta::str_at(reference, &["name"]));
    match pod {
        Some(pod) if meta::uid(&pod) != uid => Err(request.forbidden(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ))),
        Some(pod) if meta::str_at(&pod, &["spec", "nodeName"]) == node => Ok(()),
        _ => Err(request.forbidden("node requested token bound to a pod scheduled on a different node")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_world::World;
    use super::*;
    use crate::context::{User, test_context};
    use xebec_api::GroupResource;

    fn run(operation: Operation, resource: &str, name: &str, object: Value, old: Option<Value>) -> Result<(), String> {
        let ctx = test_context(User::new("system:node:n1", &["system:nodes"]));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let resource = GroupResource::new("", resource);
        let request = Request {
            operation,
            resource: &resource,
            subresource,
            namespace: "ns",
            name,
            old: old.as_ref(),
            ctx: &ctx,
        };
        restrict(&World::default(), &request, &object).map_err(|s| s.message)
    }

    #[test]
    fn a_kubelet_stays_at_home() {
        let pod = |node: &str| Some(json!({"spec": {"nodeName": node}}));
        assert!(run(Operation::Update, "pods/status", "p", json!({}), pod("n1")).is_ok());
        assert!(run(Operation::Update, "pods/status", "p", json!({}), pod("n2")).is_err());
        assert!(run(Operation::Delete, "pods", "p", Value::Null, pod("n1")).is_ok());
        assert!(run(Operation::Delete, "pods", "p", Value::Null, pod("n2")).is_err());
        assert!(run(Operation::Create, "pods", "p", json!({}), None).is_err());
        assert_eq!(
            run(Operation::Update, "nodes/status", "n2", json!({}), Some(json!({}))),
            Err("nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"".into())
        );
        let labelled = |key: &str| json!({"metadata": {"name": "n1", "labels": {key: "x"}}});
        assert!(run(Operation::Create, "nodes", "", labelled("kubernetes.io/hostname"), None).is_ok());
        assert!(run(Operation::Create, "nodes", "", labelled("node-role.kubernetes.io/master"), None).is_err());
        assert!(run(Operation::Create, "nodes", "", labelled("example.com/x"), None).is_ok());
    }
}
