//! Namespaces, nodes, leases, certificates, claims, classes, RBAC.

use serde_json::{Value, json};
use xebec_api::field::{Error, Path};
use xebec_api::meta;

use super::{immutable, one_of, problems};
use crate::context::RequestContext;

/// A new Namespace is Active and is finalized by the namespace controller.
pub fn namespace_prepare_create(object: &mut Value, _: &RequestContext) {
    object["status"] = json!({"phase": "Active"});
    let mut finalizers = meta::list_at(object, &["spec", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    meta::set(object, &["spec", "finalizers"], finalizers.into());
}

/// Only the `finalize` subresource changes `spec.finalizers`.
pub fn namespace_prepare_update(new: &mut Value, old: &Value) {
    if let Some(finalizers) = meta::get(old, &["spec", "finalizers"]).cloned() {
        meta::set(new, &["spec", "finalizers"], finalizers);
    } else {
        meta::remove(new, &["spec", "finalizers"]);
    }
}

/// A Namespace.
pub fn namespace(object: &Value) -> Vec<Error> {
    let path = Path::new("spec.finalizers");
    let finalizers = meta::list_at(object, &["spec", "finalizers"]).iter().filter_map(Value::as_str);
    let bare = finalizers.filter(|f| *f != "kubernetes" && !f.contains('/'));
    bare.map(|f| Error::invalid(&path, f, "name is neither a standard finalizer name nor is it fully qualified"))
        .collect()
}

/// Volumes and claims begin Pending.
pub fn pending_phase(object: &mut Value, _: &RequestContext) {
    object["status"] = json!({"phase": "Pending"});
}

/// A Node.
pub fn node(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, taint) in meta::list_at(object, &["spec", "taints"]).iter().enumerate() {
        let path = Path::new("spec.taints").index(i);
        let key = meta::str_at(taint, &["key"]);
        errors.extend(problems(&path.child("key"), key, xebec_api::name_rules::qualified_name(key)));
        errors.extend(one_of(taint, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path));
        if meta::str_at(taint, &["effect"]).is_empty() {
            errors.push(Error::required(&path.child("effect"), ""));
        }
    }
    for (i, cidr) in meta::list_at(object, &["spec", "podCIDRs"]).iter().enumerate() {
        if cidr.as_str().is_none_or(|c| c.parse::<ipnet::IpNet>().is_err()) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Error::invalid(&Path::new("spec.podCIDRs").index(i), cidr.clone(), detail));
        }
    }
    errors
}

/// What of a Node is for life once set.
pub fn node_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let was = meta::list_at(old, &["spec", "podCIDRs"]);
    if !was.is_empty() && was != meta::list_at(new, &["spec", "podCIDRs"]) {
        errors.push(Error::forbidden(
            &Path::new("spec.podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let provider = meta::str_at(old, &["spec", "providerID"]);
    if !provider.is_empty() && provider != meta::str_at(new, &["spec", "providerID"]) {
        errors.push(Error::forbidden(
            &Path::new("spec.providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    errors
}

/// A Lease.
pub fn lease(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    if let Some(n) = meta::i64_at(spec, &["leaseDurationSeconds"]).filter(|n| *n <= 0) {
        errors.push(Error::invalid(&path.child("leaseDurationSeconds"), n, "must be greater than 0"));
    }
    if let Some(n) = meta::i64_at(spec, &["leaseTransitions"]).filter(|n| *n < 0) {
        errors.push(Error::invalid(&path.child("leaseTransitions"), n, "must be greater than or equal to 0"));
    }
    errors
}

/// A CertificateSigningRequest carries who asked: the server's word, not the client's.
pub fn csr_prepare_create(object: &mut Value, ctx: &RequestContext) {
    let spec = &mut object["spec"];
    for key in ["username", "uid", "groups", "extra"] {
        meta::remove(spec, &[key]);
    }
    spec["username"] = ctx.user.name.as_str().into();
    if !ctx.user.uid.is_empty() {
        spec["uid"] = ctx.user.uid.as_str().into();
    }
    if !ctx.user.groups.is_empty() {
        spec["groups"] = json!(ctx.user.groups);
    }
    if !ctx.user.extra.is_empty() {
        spec["extra"] = json!(ctx.user.extra);
    }
    meta::remove(object, &["status"]);
}

/// A request never changes after it was made.
pub fn csr_prepare_update(new: &mut Value, old: &Value) {
    new["spec"] = old["spec"].clone();
}

/// A CertificateSigningRequest.
pub fn csr(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    if meta::str_at(object, &["spec", "request"]).is_empty() {
        errors.push(Error::invalid(&path.child("request"), "", "PEM block type must be CERTIFICATE REQUEST"));
    }
    let signer = meta::str_at(object, &["spec", "signerName"]);
    if signer.is_empty() {
        errors.push(Error::required(&path.child("signerName"), ""));
    } else if signer.split('/').count() != 2 {
        errors.push(Error::invalid(
            &path.child("signerName"),
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ));
    }
    if let Some(n) = meta::i64_at(object, &["spec", "expirationSeconds"]).filter(|n| *n < 600) {
        errors.push(Error::invalid(
            &path.child("expirationSeconds"),
            n,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    errors
}

/// A PersistentVolumeClaim.
pub fn persistent_volume_claim(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if meta::list_at(object, &["spec", "accessModes"]).is_empty() {
        errors.push(Error::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    if meta::get(object, &["spec", "resources", "requests", "storage"]).is_none() {
        errors.push(Error::required(&path.child("resources").key("storage"), ""));
    }
    errors
}

/// A claim grows, gets bound, and changes nothing else.
pub fn persistent_volume_claim_update(new: &Value, old: &Value) -> Vec<Error> {
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        for key in ["resources", "volumeName", "volumeAttributesClassName", "storageClassName"] {
            meta::remove(&mut spec, &[key]);
        }
        spec
    };
    let bound = |object: &Value| meta::str_at(object, &["spec", "volumeName"]).to_owned();
    if fixed(new) == fixed(old) && (bound(old).is_empty() || bound(old) == bound(new)) {
        return Vec::new();
    }
    let detail =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    vec![Error::forbidden(&Path::new("spec"), detail)]
}

/// A PriorityClass.
pub fn priority_class(object: &Value) -> Vec<Error> {
    const USER_PRIORITY_MAX: i64 = 1_000_000_000;
    let name = meta::name(object);
    let value = meta::i64_at(object, &["value"]).unwrap_or(0);
    let mut errors = one_of(object, "preemptionPolicy", &["Never", "PreemptLowerPriority"], &Path::root());
    let known = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
    if name.starts_with("system-") {
        if !known.contains(&(name, value)) {
            let detail = "priority class names with 'system-' prefix are reserved for system use only";
            errors.push(Error::forbidden(&Path::new("metadata.name"), detail));
        }
    } else if value > USER_PRIORITY_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    errors
}

/// A PriorityClass's value is for life.
pub fn priority_class_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if new.get("value") != old.get("value") {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    errors.extend(immutable(new, old, &["preemptionPolicy"]));
    errors
}

/// A StorageClass is for life.
pub fn storage_class_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.get(key) != old.get(key) {
            errors.push(Error::forbidden(&Path::new(key), "updates to this field are forbidden."));
        }
    }
    errors.extend(immutable(new, old, &["volumeBindingMode"]));
    errors
}

/// Roles and bindings.
pub fn rbac(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    match meta::kind(object) {
        kind @ ("Role" | "ClusterRole") => {
            for (i, rule) in meta::list_at(object, &["rules"]).iter().enumerate() {
                errors.extend(policy_rule(rule, &Path::new("rules").index(i), kind == "Role"));
            }
        }
        kind @ ("RoleBinding" | "ClusterRoleBinding") => {
            let supported: &[&str] = if kind == "RoleBinding" { &["ClusterRole", "Role"] } else { &["ClusterRole"] };
            let path = Path::new("roleRef");
            let role = &object["roleRef"];
            if meta::kind(role).is_empty() || !supported.contains(&meta::kind(role)) {
                errors.push(Error::not_supported(&path.child("kind"), meta::kind(role), supported));
            }
            if meta::str_at(role, &["name"]).is_empty() {
                errors.push(Error::required(&path.child("name"), ""));
            }
            for (i, subject) in meta::list_at(object, &["subjects"]).iter().enumerate() {
                errors.extend(rbac_subject(subject, &Path::new("subjects").index(i), kind == "RoleBinding"));
            }
        }
        _ => {}
    }
    errors
}

fn policy_rule(rule: &Value, path: &Path, namespaced: bool) -> Vec<Error> {
    let empty = |key: &str| meta::list_at(rule, &[key]).is_empty();
    let mut errors = Vec::new();
    if empty("verbs") {
        errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if !empty("nonResourceURLs") {
        if namespaced {
            let urls = rule["nonResourceURLs"].clone();
            errors.push(Error::invalid(
                &path.child("nonResourceURLs"),
                urls,
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            let urls = rule["nonResourceURLs"].clone();
            errors.push(Error::invalid(
                &path.child("nonResourceURLs"),
                urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            ));
        }
        return errors;
    }
    if empty("apiGroups") {
        errors.push(Error::required(&path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if empty("resources") {
        errors.push(Error::required(&path.child("resources"), "resource rules must supply at least one resource"));
    }
    errors
}

fn rbac_subject(subject: &Value, path: &Path, namespaced: bool) -> Vec<Error> {
    let mut errors = Vec::new();
    if meta::str_at(subject, &["name"]).is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    match meta::kind(subject) {
        "ServiceAccount" => {
            if !namespaced && meta::str_at(subject, &["namespace"]).is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {}
        other => errors.push(Error::not_supported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"])),
    }
    errors
}

/// A binding's role is for life.
pub fn rbac_update(new: &Value, old: &Value) -> Vec<Error> {
    if new.get("roleRef") == old.get("roleRef") {
        return Vec::new();
    }
    vec![Error::invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{User, test_context};

    #[test]
    fn requests_for_certificates_carry_the_caller() {
        let mut object =
            json!({"spec": {"username": "root", "groups": ["system:masters"], "request": "x", "signerName": "a.io/b"}});
        csr_prepare_create(&mut object, &test_context(User::new("system:bootstrap:x", &["system:bootstrappers"])));
        assert_eq!(object["spec"]["username"], json!("system:bootstrap:x"));
        assert_eq!(object["spec"]["groups"], json!(["system:bootstrappers"]));
        assert!(csr(&object).is_empty());
    }

    #[test]
    fn role_references_are_for_life() {
        let old = json!({"kind": "RoleBinding", "roleRef": {"kind": "Role", "name": "a"}});
        let new = json!({"kind": "RoleBinding", "roleRef": {"kind": "Role", "name": "b"}});
        assert_eq!(rbac_update(&new, &old).len(), 1);
        assert!(rbac(&old).is_empty());
        assert_eq!(rbac(&json!({"kind": "Role", "rules": [{"verbs": ["get"]}]})).len(), 2);
    }
}
