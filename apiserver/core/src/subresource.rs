//! Subresources with a meaning of their own: scale, binding, finalize, approval, eviction.

use serde_json::{Value, json};
use xebec_api::selector::LabelSelector;
use xebec_api::{GroupResource, Status, meta};

use crate::context::RequestContext;

/// The Scale of a workload: `spec.replicas`, `status.replicas` and the selector as text. `None` for kinds that do not
/// scale.
pub fn scale_of(object: &Value) -> Option<Value> {
    let selector = match (meta::kind(object), meta::get(object, &["spec", "selector"])) {
        ("ReplicationController", Some(Value::Object(labels))) => LabelSelector::from_labels(labels).to_string(),
        ("Deployment" | "ReplicaSet" | "StatefulSet", Some(selector)) => {
            LabelSelector::from_object(selector).ok()?.to_string()
        }
        _ => return None,
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::get(object, &["metadata", field]) {
            metadata[field] = value.clone();
        }
    }
    Some(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": meta::i64_at(object, &["spec", "replicas"]).unwrap_or(0)},
        "status": {"replicas": meta::i64_at(object, &["status", "replicas"]).unwrap_or(0), "selector": selector},
    }))
}

/// The workload with a Scale's replicas.
///
/// # Errors
/// 409 when the Scale is of an older version or of another object, 422 for negative replicas.
pub fn apply_scale(object: &Value, scale: &Value, resource: &GroupResource) -> Result<Value, Status> {
    let name = meta::name(object);
    let uid = meta::uid(scale);
    if !uid.is_empty() && uid != meta::uid(object) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(object));
        return Err(Status::conflict(resource, name, &why));
    }
    let version = meta::resource_version(scale);
    if !version.is_empty() && version != meta::resource_version(object) {
        return Err(Status::modified(resource, name));
    }
    let replicas = meta::i64_at(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let path = xebec_api::field::Path::new("spec.replicas");
        let error = xebec_api::field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&xebec_api::GroupKind::new("autoscaling", "Scale"), name, &[error]));
    }
    let mut scaled = object.clone();
    meta::set(&mut scaled, &["spec", "replicas"], replicas.into());
    Ok(scaled)
}

/// The Pod bound to the Binding's node (kubernetes `pkg/registry/core/pod/storage`, `setPodNodeAndMetadata`).
///
/// # Errors
/// 409 when the pod is bound, being deleted or gated; 422 when the target is no node.
pub fn bind(pod: &Value, binding: &Value, ctx: &RequestContext) -> Result<Value, Status> {
    let resource = GroupResource::new("", "pods/binding");
    let name = meta::name(pod);
    let kind = meta::str_at(binding, &["target", "kind"]);
    let node = meta::str_at(binding, &["target", "name"]);
    let invalid = |error| Err(Status::invalid(&xebec_api::GroupKind::new("", "Binding"), name, &[error]));
    let path = xebec_api::field::Path::new("target");
    if !matches!(kind, "" | "Node") {
        return invalid(xebec_api::field::Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        return invalid(xebec_api::field::Error::required(&path.child("name"), ""));
    }
    let conflict = |why: String| Err(Status::conflict(&resource, name, &why));
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        ));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let bound = meta::str_at(pod, &["spec", "nodeName"]);
    if !bound.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {bound:?}"));
    }
    if !meta::list_at(pod, &["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut updated = pod.clone();
    meta::set(&mut updated, &["spec", "nodeName"], node.into());
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        meta::set_annotation(&mut updated, key, value.as_str().unwrap_or(""));
    }
    for (key, value) in meta::labels(binding).into_iter().flatten() {
        meta::set_label(&mut updated, key, value.as_str().unwrap_or(""));
    }
    set_condition(
        &mut updated,
        json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": ctx.now_text()}),
    );
    Ok(updated)
}

/// Replaces the condition of the same type; the transition time stays where the status does.
pub fn set_condition(object: &mut Value, mut condition: Value) {
    let mut conditions = meta::list_at(object, &["status", "conditions"]).to_vec();
    let same_type = |other: &&mut Value| meta::str_at(other, &["type"]) == meta::str_at(&condition, &["type"]);
    match conditions.iter_mut().find(same_type) {
        Some(old) => {
            if old["status"] == condition["status"]
                && let Some(time) = old.get("lastTransitionTime")
            {
                condition["lastTransitionTime"] = time.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    meta::set(object, &["status", "conditions"], conditions.into());
}

/// The Namespace with the finalizers of the one sent to `finalize`; nothing else changes.
pub fn finalize_namespace(old: &Value, sent: &Value) -> Value {
    let mut namespace = old.clone();
    match meta::get(sent, &["spec", "finalizers"]) {
        Some(finalizers) if finalizers.as_array().is_some_and(|f| !f.is_empty()) => {
            meta::set(&mut namespace, &["spec", "finalizers"], finalizers.clone());
        }
        _ => {
            meta::remove(&mut namespace, &["spec", "finalizers"]);
        }
    }
    namespace
}

/// The CertificateSigningRequest with the approval conditions of the one sent to `approval`.
///
/// # Errors
/// 422 when a verdict is taken back or both are given.
pub fn approve_csr(old: &Value, sent: &Value, ctx: &RequestContext) -> Result<Value, Status> {
    csr_status(old, sent, ctx, true)
}

/// The CertificateSigningRequest with the certificate and the failure of the one sent to `status`.
///
/// # Errors
/// 422 when a certificate is replaced.
pub fn update_csr_status(old: &Value, sent: &Value, ctx: &RequestContext) -> Result<Value, Status> {
    csr_status(old, sent, ctx, false)
}

fn csr_status(old: &Value, sent: &Value, ctx: &RequestContext, approval: bool) -> Result<Value, Status> {
    use xebec_api::field::{Error, Path};
    let verdict = |condition: &&Value| matches!(meta::str_at(condition, &["type"]), "Approved" | "Denied");
    let (before, after) =
        (meta::list_at(old, &["status", "conditions"]), meta::list_at(sent, &["status", "conditions"]));
    let path = Path::new("status.conditions");
    let mut errors = Vec::new();
    let has = |list: &[Value], kind: &str| list.iter().any(|c| meta::str_at(c, &["type"]) == kind);
    if has(after, "Approved") && has(after, "Denied") {
        errors.push(Error::invalid(&path, "", "Approved and Denied conditions are mutually exclusive"));
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if has(before, kind) && !has(after, kind) {
            errors.push(Error::forbidden(&path, format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    let (certificate, stored) = (&sent["status"]["certificate"], &old["status"]["certificate"]);
    if !approval && !stored.is_null() && stored != certificate {
        errors.push(Error::forbidden(
            &Path::new("status.certificate"),
            "updates may not set, change or remove a certificate that is set",
        ));
    }
    if !errors.is_empty() {
        let kind = xebec_api::GroupKind::new("certificates.k8s.io", "CertificateSigningRequest");
        return Err(Status::invalid(&kind, meta::name(old), &errors));
    }
    let mut updated = old.clone();
    // Each of the two subresources writes its own conditions only.
    let kept = before.iter().filter(|c| verdict(c) != approval);
    let taken = after.iter().filter(|c| verdict(c) == approval);
    let conditions: Vec<Value> = kept.chain(taken).map(|c| stamped(c, before, ctx)).collect();
    if !conditions.is_empty() {
        meta::set(&mut updated, &["status", "conditions"], conditions.into());
    }
    if !approval && !certificate.is_null() {
        meta::set(&mut updated, &["status", "certificate"], certificate.clone());
    }
    Ok(updated)
}

fn stamped(condition: &Value, before: &[Value], ctx: &RequestContext) -> Value {
    let mut condition = condition.clone();
    let old = before.iter().find(|c| c["type"] == condition["type"] && c["status"] == condition["status"]);
    let time = old.and_then(|c| c.get("lastTransitionTime").cloned()).unwrap_or_else(|| ctx.now_text().into());
    if condition.get("lastUpdateTime").is_none_or(Value::is_null) {
        condition["lastUpdateTime"] = ctx.now_text().into();
    }
    if condition.get("lastTransitionTime").is_none_or(Value::is_null) {
        condition["lastTransitionTime"] = time;
    }
    condition
}

/// Whether the budgets that select a pod let it go (kubernetes `pkg/registry/core/pod/storage/eviction.go`). `Ok` holds
/// the budget to be stored with one disruption less, if one guards the pod.
///
/// # Errors
/// 429 when the budget is used up, 500 when several budgets select the pod.
pub fn evict(pod: &Value, budgets: &[Value], ctx: &RequestContext) -> Result<Option<Value>, Status> {
    let phase = meta::str_at(pod, &["status", "phase"]);
    if matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::deletion_timestamp(pod).is_some() {
        return Ok(None);
    }
    let selects = |budget: &&Value| {
        let selector = meta::get(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
        LabelSelector::from_object(selector).is_ok_and(|s| s.matches(meta::labels(pod)))
    };
    let guarding: Vec<&Value> = budgets.iter().filter(selects).collect();
    let budget = match guarding.as_slice() {
        [] => return Ok(None),
        [one] => *one,
        _ => {
            return Err(Status::internal_error(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let ready = meta::list_at(pod, &["status", "conditions"])
        .iter()
        .any(|c| meta::str_at(c, &["type"]) == "Ready" && meta::str_at(c, &["status"]) == "True");
    let number = |field: &str| meta::i64_at(budget, &["status", field]).unwrap_or(0);
    let policy = meta::str_at(budget, &["spec", "unhealthyPodEvictionPolicy"]);
    let healthy_enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    if !ready && (policy == "AlwaysAllow" || healthy_enough) {
        return Ok(None);
    }
    let refuse = |detail: String| {
        let cause =
            xebec_api::status::Cause { reason: "DisruptionBudget".into(), message: detail, field: String::new() };
        Err(Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
            .with_cause(cause))
    };
    let name = meta::name(budget);
    if number("observedGeneration") < meta::generation(budget) {
        return refuse(format!("The disruption budget {name} is still being processed by the server."));
    }
    if number("disruptionsAllowed") <= 0 {
        let (desired, current) = (number("desiredHealthy"), number("currentHealthy"));
        return refuse(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ));
    }
    let mut updated = budget.clone();
    meta::set(&mut updated, &["status", "disruptionsAllowed"], (number("disruptionsAllowed") - 1).into());
    meta::set(&mut updated, &["status", "disruptedPods", meta::name(pod)], ctx.now_text().into());
    Ok(Some(updated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{User, test_context};

    #[test]
    fn a_pod_is_bound_once() {
        let ctx = test_context(User::default());
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}});
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
        let bound = bind(&pod, &binding, &ctx).expect("free");
        assert_eq!(bound["spec"]["nodeName"], json!("n1"));
        assert_eq!(bound["status"]["conditions"][0]["type"], json!("PodScheduled"));
        let again = bind(&bound, &binding, &ctx).expect_err("bound");
        assert_eq!(again.code, 409);
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
        );
    }

    #[test]
    fn scales_read_and_write_replicas() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "resourceVersion": "5"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 2}});
        let mut scale = scale_of(&object).expect("scales");
        assert_eq!(
            (&scale["spec"]["replicas"], &scale["status"]),
            (&json!(3), &json!({"replicas": 2, "selector": "a=b"}))
        );
        scale["spec"]["replicas"] = json!(5);
        let resource = GroupResource::new("apps", "deployments");
        assert_eq!(apply_scale(&object, &scale, &resource).expect("current")["spec"]["replicas"], json!(5));
        scale["metadata"]["resourceVersion"] = json!("4");
        assert_eq!(apply_scale(&object, &scale, &resource).expect_err("stale").code, 409);
    }

    #[test]
    fn verdicts_and_certificates_have_their_own_ways() {
        let ctx = test_context(User::default());
        let old = json!({"metadata": {"name": "c"}, "spec": {"request": "x"}});
        let sent = json!({"metadata": {"name": "c"}, "spec": {"request": "evil"}, "status": {"certificate": "cert",
            "conditions": [{"type": "Approved", "status": "True"}]}});
        let approved = approve_csr(&old, &sent, &ctx).expect("valid");
        assert_eq!(approved["spec"]["request"], json!("x"));
        assert!(approved["status"].get("certificate").is_none());
        let signed = update_csr_status(&approved, &sent, &ctx).expect("valid");
        assert_eq!(signed["status"]["certificate"], json!("cert"));
        assert_eq!(signed["status"]["conditions"][0]["type"], json!("Approved"));
        let mut other = sent.clone();
        other["status"]["certificate"] = json!("other");
        assert!(update_csr_status(&signed, &other, &ctx).is_err());
    }

    #[test]
    fn budgets_are_spent() {
        let ctx = test_context(User::default());
        let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let mut budget = json!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}, "status": {"disruptionsAllowed": 1}});
        let spent = evict(&pod, &[budget.clone()], &ctx).expect("allowed").expect("a budget");
        assert_eq!(spent["status"]["disruptionsAllowed"], json!(0));
        budget["status"]["disruptionsAllowed"] = json!(0);
        assert_eq!(evict(&pod, &[budget], &ctx).expect_err("refused").code, 429);
        assert_eq!(evict(&pod, &[], &ctx), Ok(None));
    }
}
