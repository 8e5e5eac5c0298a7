//! Policy, storage classes, certificates, RBAC, webhooks, autoscaling.

use serde_json::{Value, json};
use xebec_api::meta;

use super::{absent, child, empty, existing, items};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Role bindings: groups of references. Roles have none and stay as they are.
pub fn rbac_binding(object: &mut Value) {
    if let Some(role) = existing(object, "roleRef") {
        empty(role, "apiGroup", RBAC_GROUP);
    }
    for subject in items(object, "subjects") {
        if matches!(meta::kind(subject), "User" | "Group") {
            empty(subject, "apiGroup", RBAC_GROUP);
        }
    }
}

/// A CertificateSigningRequest.
pub fn certificate_signing_request(object: &mut Value) {
    let spec = child(object, "spec");
    if meta::list_at(spec, &["usages"]).is_empty() {
        spec["usages"] = json!(["digital signature", "key encipherment"]);
    }
}

/// A PodDisruptionBudget keeps what upstream leaves absent.
pub fn pod_disruption_budget(object: &mut Value) {
    child(object, "spec");
}

/// A PriorityClass.
pub fn priority_class(object: &mut Value) {
    absent(object, "preemptionPolicy", "PreemptLowerPriority");
}

/// A StorageClass.
pub fn storage_class(object: &mut Value) {
    absent(object, "reclaimPolicy", "Delete");
    absent(object, "volumeBindingMode", "Immediate");
}

/// A CSIDriver.
pub fn csi_driver(object: &mut Value) {
    let spec = child(object, "spec");
    for (key, value) in [
        ("attachRequired", json!(true)),
        ("podInfoOnMount", json!(false)),
        ("storageCapacity", json!(false)),
        ("requiresRepublish", json!(false)),
        ("seLinuxMount", json!(false)),
        ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
        ("volumeLifecycleModes", json!(["Persistent"])),
    ] {
        absent(spec, key, value);
    }
}

/// A FlowSchema stands behind those that say where they stand.
pub fn flow_schema(object: &mut Value) {
    let spec = child(object, "spec");
    if meta::i64_at(spec, &["matchingPrecedence"]).unwrap_or(0) == 0 {
        spec["matchingPrecedence"] = json!(1000);
    }
}

/// What an admission policy or its binding is for.
fn match_resources(resources: &mut Value) {
    absent(resources, "matchPolicy", "Equivalent");
    absent(resources, "namespaceSelector", json!({}));
    absent(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        items(resources, rules).for_each(|rule| absent(rule, "scope", "*"));
    }
}

/// Webhook configurations and admission policies.
pub fn webhooks(object: &mut Value) {
    let policy = matches!(meta::kind(object), "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy");
    if let Some(spec) = existing(object, "spec") {
        if policy {
            absent(spec, "failurePolicy", "Fail");
        }
        for key in ["matchConstraints", "matchResources"] {
            if let Some(resources) = existing(spec, key) {
                match_resources(resources);
            }
        }
    }
    let mutating = meta::kind(object) == "MutatingWebhookConfiguration";
    for hook in items(object, "webhooks") {
        absent(hook, "failurePolicy", "Fail");
        absent(hook, "matchPolicy", "Equivalent");
        absent(hook, "namespaceSelector", json!({}));
        absent(hook, "objectSelector", json!({}));
        absent(hook, "timeoutSeconds", 10);
        if mutating {
            absent(hook, "reinvocationPolicy", "Never");
        }
        if let Some(service) = hook.get_mut("clientConfig").and_then(|c| existing(c, "service")) {
            absent(service, "port", 443);
        }
        items(hook, "rules").for_each(|rule| absent(rule, "scope", "*"));
    }
}

/// A HorizontalPodAutoscaler of `autoscaling/v2` (the metrics default holds for v1's CPU target, too).
pub fn horizontal_pod_autoscaler(object: &mut Value) {
    let v2 = meta::api_version(object) == "autoscaling/v2";
    let spec = child(object, "spec");
    absent(spec, "minReplicas", 1);
    if v2 && meta::list_at(spec, &["metrics"]).is_empty() {
        spec["metrics"] = json!([{"type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_match_equivalent_resources_of_any_scope() {
        let rules = json!([{"resources": ["pods"]}]);
        let mut policy =
            json!({"kind": "ValidatingAdmissionPolicy", "spec": {"matchConstraints": {"resourceRules": rules}}});
        webhooks(&mut policy);
        assert_eq!(
            policy["spec"],
            json!({"failurePolicy": "Fail", "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {},
                "objectSelector": {}, "resourceRules": [{"resources": ["pods"], "scope": "*"}]}})
        );
        let mut schema = json!({});
        flow_schema(&mut schema);
        assert_eq!(schema["spec"]["matchingPrecedence"], json!(1000));
    }
}
