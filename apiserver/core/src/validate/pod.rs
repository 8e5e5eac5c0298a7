//! Pods (kubernetes `pkg/apis/core/validation/validation.go`, `ValidatePodCreate` and `ValidatePodUpdate`).

use std::collections::HashSet;

use serde_json::{Value, json};
use xebec_api::field::{Error, Path};
use xebec_api::{meta, name_rules};

use super::container::{Surroundings, container};
use super::{non_negative, one_of, problems};
use crate::context::RequestContext;
use crate::registry::validate_metadata;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];
/// What an update of a pod's spec may change.
const UPDATE_RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
(allow it to be set to 1 if it was previously negative)";

/// A new Pod is Pending, and has a quality of service by its resources.
pub fn pod_prepare_create(pod: &mut Value, _: &RequestContext) {
    let class = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
    // Gated pods say so from the start (KEP-3521).
    if !meta::list_at(pod, &["spec", "schedulingGates"]).is_empty() {
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by cpu and memory (kubernetes `pkg/apis/core/v1/helper/qos`).
fn qos_class(pod: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let lists = ["initContainers", "containers"];
    for container in lists.iter().flat_map(|list| meta::list_at(pod, &["spec", list])) {
        for resource in ["cpu", "memory"] {
            let value = |list: &str| {
                let value = meta::get(container, &["resources", list, resource])?;
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.parse::<xebec_api::Quantity>().ok()
            };
            let (request, limit) = (value("requests"), value("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A Pod.
pub fn pod(pod: &Value) -> Vec<Error> {
    pod_spec(&pod["spec"], &Path::new("spec"))
}

/// A pod's spec at `path`.
pub fn pod_spec(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (volume_errors, volumes) = volumes(spec, &path.child("volumes"));
    errors.extend(volume_errors);
    let mut around = Surroundings { volumes, names: HashSet::new() };
    if meta::list_at(spec, &["containers"]).is_empty() {
        errors.push(Error::required(&path.child("containers"), ""));
    }
    for (list, init) in [("containers", false), ("initContainers", true)] {
        for (i, one) in meta::list_at(spec, &[list]).iter().enumerate() {
            errors.extend(container(one, &path.child(list).index(i), &mut around, init));
        }
    }
    errors.extend(one_of(spec, "restartPolicy", &RESTART_POLICIES, path));
    errors.extend(one_of(spec, "dnsPolicy", &DNS_POLICIES, path));
    errors.extend(non_negative(spec, "terminationGracePeriodSeconds", path));
    for (key, rule) in [
        ("serviceAccountName", name_rules::dns_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", name_rules::dns_subdomain),
        ("priorityClassName", name_rules::dns_subdomain),
        ("runtimeClassName", name_rules::dns_subdomain),
        ("hostname", name_rules::dns_label),
        ("subdomain", name_rules::dns_label),
    ] {
        let value = meta::str_at(spec, &[key]);
        if !value.is_empty() {
            errors.extend(problems(&path.child(key), value, rule(value)));
        }
    }
    if let Some(n) = meta::i64_at(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&n)
    {
        errors.push(Error::invalid(
            &path.child("activeDeadlineSeconds"),
            n,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if let Some(selector) = meta::get(spec, &["nodeSelector"]).and_then(Value::as_object) {
        errors.extend(crate::registry::labels_errors(selector, &path.child("nodeSelector")));
    }
    errors.extend(tolerations(spec, &path.child("tolerations")));
    errors
}

fn tolerations(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, toleration) in meta::list_at(spec, &["tolerations"]).iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (meta::str_at(toleration, &["key"]), meta::str_at(toleration, &["operator"]));
        if !key.is_empty() {
            errors.extend(problems(&path.child("key"), key, name_rules::qualified_name(key)));
        } else if operator != "Exists" {
            errors.push(Error::invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        errors.extend(one_of(toleration, "operator", &OPERATORS, &path));
        errors.extend(one_of(toleration, "effect", &TAINT_EFFECTS, &path));
        if toleration.get("tolerationSeconds").is_some_and(|t| !t.is_null())
            && meta::str_at(toleration, &["effect"]) != "NoExecute"
        {
            errors.push(Error::invalid(
                &path.child("effect"),
                meta::str_at(toleration, &["effect"]),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
    }
    errors
}

fn volumes<'a>(spec: &'a Value, path: &Path) -> (Vec<Error>, HashSet<&'a str>) {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (i, volume) in meta::list_at(spec, &["volumes"]).iter().enumerate() {
        let path = path.index(i);
        let name = meta::str_at(volume, &["name"]);
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else {
            errors.extend(problems(&path.child("name"), name, name_rules::dns_label(name)));
            if !names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, v)| *k != "name" && !v.is_null())
            .map(|(k, _)| k)
            .collect();
        match sources.as_slice() {
            [] => errors.push(Error::required(&path, "must specify a volume type")),
            [_] => {}
            [_, more @ ..] => {
                errors.extend(
                    more.iter().map(|s| Error::forbidden(&path.child(s), "may not specify more than 1 volume type")),
                );
            }
        }
        for (source, field) in [
            ("secret", "secretName"),
            ("configMap", "name"),
            ("persistentVolumeClaim", "claimName"),
            ("hostPath", "path"),
        ] {
            if let Some(value) = volume.get(source).filter(|v| v.is_object())
                && meta::str_at(value, &[field]).is_empty()
            {
                errors.push(Error::required(&path.child(source).child(field), ""));
            }
        }
    }
    (errors, names)
}

/// An update may change images, deadlines, and add tolerations; gated pods also drop gates.
pub fn pod_update(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if meta::list_at(new, &["spec", "containers"]).len() != meta::list_at(old, &["spec", "containers"]).len() {
        errors.push(Error::forbidden(&path.child("containers"), "pod updates may not add or remove containers"));
        return errors;
    }
    let old_tolerations = meta::list_at(old, &["spec", "tolerations"]);
    let new_tolerations = meta::list_at(new, &["spec", "tolerations"]);
    if !old_tolerations.iter().all(|t| new_tolerations.contains(t)) {
        errors.push(Error::forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let old_gates = meta::list_at(old, &["spec", "schedulingGates"]);
    if meta::list_at(new, &["spec", "schedulingGates"]).iter().any(|gate| !old_gates.contains(gate)) {
        errors.push(Error::forbidden(
            &path.child("schedulingGates"),
            "only deletion is allowed, but found new scheduling gate",
        ));
    }
    let mut allowed = new["spec"].clone();
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        match meta::get(old, &["spec", key]) {
            Some(value) => allowed[key] = value.clone(),
            None => {
                meta::remove(&mut allowed, &[key]);
            }
        }
    }
    if meta::i64_at(old, &["spec", "terminationGracePeriodSeconds"]).is_some_and(|n| n < 0) {
        allowed["terminationGracePeriodSeconds"] = old["spec"]["terminationGracePeriodSeconds"].clone();
    }
    for list in ["containers", "initContainers"] {
        let images = meta::list_at(old, &["spec", list]).iter().map(|c| c["image"].clone());
        if let Some(containers) = allowed.get_mut(list).and_then(Value::as_array_mut) {
            containers.iter_mut().zip(images).for_each(|(container, image)| container["image"] = image);
        }
    }
    // While gated, a pod's node selector and affinity may be narrowed (KEP-3838).
    if !old_gates.is_empty() {
        for key in ["nodeSelector", "affinity"] {
            match meta::get(old, &["spec", key]) {
                Some(value) => allowed[key] = value.clone(),
                None => {
                    meta::remove(&mut allowed, &[key]);
                }
            }
        }
    }
    if allowed != old["spec"] {
        errors.push(Error::forbidden(&path, UPDATE_RULE));
    }
    errors
}

/// A status update may not unset or change the nominated node into nonsense; the spec was kept already.
pub fn pod_status_update(new: &Value, _: &Value) -> Vec<Error> {
    let nominated = meta::str_at(new, &["status", "nominatedNodeName"]);
    if nominated.is_empty() {
        return Vec::new();
    }
    problems(&Path::new("status.nominatedNodeName"), nominated, name_rules::dns_subdomain(nominated))
}

/// A pod template at `path`; only `restartPolicies` fit the owner.
pub(super) fn template(template: &Value, path: &Path, restart_policies: &[&str]) -> Vec<Error> {
    let mut errors = Vec::new();
    // A template has labels and annotations, but neither name nor namespace to be validated.
    let named = json!({"metadata": {"name": "a", "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]}});
    errors.extend(validate_metadata(&named, false, |_| Vec::new()).into_iter().map(|mut error| {
        error.field = path.child(error.field.as_str());
        error
    }));
    errors.extend(pod_spec(&template["spec"], &path.child("spec")));
    let policy = meta::str_at(template, &["spec", "restartPolicy"]);
    if RESTART_POLICIES.contains(&policy) && !restart_policies.contains(&policy) {
        errors.push(Error::not_supported(&path.child("spec").child("restartPolicy"), policy, restart_policies));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        let mut pod =
            json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        crate::defaults::pod(&mut pod);
        pod
    }

    fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut object = base();
        change(&mut object);
        let fields: Vec<String> = pod(&object).iter().map(|e| e.field.as_str().to_owned()).collect();
        assert_eq!(fields, expected, "{object}");
    }

    #[test]
    fn pods_are_refused_where_upstream_refuses_them() {
        check(|_| {}, &[]);
        check(|p| p["spec"]["containers"] = json!([]), &["spec.containers"]);
        check(|p| p["spec"]["containers"][0]["name"] = json!("A"), &["spec.containers[0].name"]);
        check(|p| p["spec"]["containers"][0]["image"] = json!(""), &["spec.containers[0].image"]);
        check(|p| p["spec"]["restartPolicy"] = json!("Sometimes"), &["spec.restartPolicy"]);
        check(
            |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 70000}]),
            &["spec.containers[0].ports[0].containerPort"],
        );
        check(
            |p| p["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]),
            &["spec.containers[0].volumeMounts[0].name"],
        );
        check(
            |p| p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
            &["spec.volumes[0].secret"],
        );
        check(|p| p["spec"]["containers"][0]["livenessProbe"] = json!({}), &["spec.containers[0].livenessProbe"]);
        check(
            |p| p["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            &["spec.containers[0].resources.requests"],
        );
        check(|p| p["spec"]["containers"][0]["env"] = json!([{"name": "A=B"}]), &["spec.containers[0].env[0].name"]);
    }

    #[test]
    fn only_a_few_fields_of_a_pod_change() {
        let old = base();
        let mut image = old.clone();
        image["spec"]["containers"][0]["image"] = json!("other");
        image["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        assert!(pod_update(&image, &old).is_empty());
        let mut command = old.clone();
        command["spec"]["containers"][0]["command"] = json!(["x"]);
        assert_eq!(pod_update(&command, &old).len(), 1);
    }

    #[test]
    fn quality_of_service_follows_resources() {
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
        ] {
            let pod = json!({"spec": {"containers": [{"resources": resources}]}});
            assert_eq!(qos_class(&pod), class, "{pod}");
        }
    }
}
