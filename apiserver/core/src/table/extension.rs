//! Cells of admission policies, flow control, devices and storage versions.

use serde_json::{Value, json};
use xebec_api::meta;

use super::cells::{NONE, UNSET, count, or_none, text};

pub(super) fn cells(group: &str, kind: &str, o: &Value, name: Value, age: Value) -> Vec<Value> {
    let spec = &o["spec"];
    match (group, kind) {
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            vec![name, json!(count(spec, "validations")), param_kind(spec), age]
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            vec![name, json!(count(spec, "mutations")), param_kind(spec), age]
        }
        ("admissionregistration.k8s.io", _) => vec![name, text(spec, &["policyName"]), param_ref(spec), age],
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow_schema(o, name, age),
        ("flowcontrol.apiserver.k8s.io", _) => priority_level(spec, name, age),
        ("internal.apiserver.k8s.io", "StorageVersion") => storage_version(&o["status"], name, age),
        ("resource.k8s.io", "ResourceClaim") => vec![name, json!(claim_state(o)), age],
        ("resource.k8s.io", "ResourceSlice") => {
            vec![name, text(spec, &["nodeName"]), text(spec, &["driver"]), text(spec, &["pool", "name"]), age]
        }
        ("storagemigration.k8s.io", "StorageVersionMigration") => {
            let resource = &spec["resource"];
            let (plural, group) = (meta::str_at(resource, &["resource"]), meta::str_at(resource, &["group"]));
            vec![name, json!(if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") })]
        }
        _ => vec![name, age],
    }
}

fn param_kind(spec: &Value) -> Value {
    let kind = &spec["paramKind"];
    if !kind.is_object() {
        return json!(UNSET);
    }
    json!(format!("{}/{}", meta::api_version(kind), meta::kind(kind)))
}

fn param_ref(spec: &Value) -> Value {
    let reference = &spec["paramRef"];
    match (meta::str_at(reference, &["namespace"]), meta::str_at(reference, &["name"])) {
        (_, "") => json!(UNSET),
        ("", name) => json!(name),
        (namespace, name) => json!(format!("{namespace}/{name}")),
    }
}

fn flow_schema(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let dangling =
        meta::list_at(o, &["status", "conditions"]).iter().find(|c| meta::str_at(c, &["type"]) == "Dangling");
    vec![
        name,
        or_none(meta::str_at(o, &["spec", "priorityLevelConfiguration", "name"])),
        json!(meta::i64_at(o, &["spec", "matchingPrecedence"]).unwrap_or(0)),
        or_none(meta::str_at(o, &["spec", "distinguisherMethod", "type"])),
        age,
        json!(dangling.map_or("?", |condition| meta::str_at(condition, &["status"]))),
    ]
}

fn priority_level(spec: &Value, name: Value, age: Value) -> Vec<Value> {
    let limited = &spec["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |value: &Value| if value.is_null() { json!(NONE) } else { value.clone() };
    vec![
        name,
        text(spec, &["type"]),
        shown(&limited["nominalConcurrencyShares"]),
        shown(&queuing["queues"]),
        shown(&queuing["handSize"]),
        shown(&queuing["queueLengthLimit"]),
        age,
    ]
}

fn storage_version(status: &Value, name: Value, age: Value) -> Vec<Value> {
    let common = meta::str_at(status, &["commonEncodingVersion"]);
    let servers = meta::list_at(status, &["storageVersions"]).iter();
    let versions: Vec<String> = servers
        .map(|server| {
            format!("{}={}", meta::str_at(server, &["apiServerID"]), meta::str_at(server, &["encodingVersion"]))
        })
        .collect();
    let common = if common.is_empty() { UNSET } else { common };
    vec![name, json!(common), json!(if versions.is_empty() { UNSET.to_owned() } else { versions.join(",") }), age]
}

fn claim_state(claim: &Value) -> String {
    let deleting = meta::deletion_timestamp(claim).is_some();
    let allocated = claim["status"].get("allocation").is_some_and(|allocation| !allocation.is_null());
    let reserved = allocated && !meta::list_at(claim, &["status", "reservedFor"]).is_empty();
    let states =
        [("deleted", deleting), ("pending", !allocated && !deleting), ("allocated", allocated), ("reserved", reserved)];
    states.iter().filter(|(_, holds)| *holds).map(|(state, _)| *state).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(group: &str, kind: &str, o: Value, expected: &[Value]) {
        assert_eq!(cells(group, kind, &o, json!("x"), json!("5s")), expected, "{kind}");
    }

    #[test]
    fn rows_read_as_upstream() {
        let admission = "admissionregistration.k8s.io";
        let policy = json!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}});
        check(
            admission,
            "ValidatingAdmissionPolicy",
            policy,
            &[json!("x"), json!(1), json!("v1/ConfigMap"), json!("5s")],
        );
        let binding = json!({"spec": {"policyName": "p", "paramRef": {"namespace": "a", "name": "b"}}});
        check(
            admission,
            "ValidatingAdmissionPolicyBinding",
            binding,
            &[json!("x"), json!("p"), json!("a/b"), json!("5s")],
        );
        let schema = json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 2}});
        check(
            "flowcontrol.apiserver.k8s.io",
            "FlowSchema",
            schema,
            &[json!("x"), json!("exempt"), json!(2), json!(NONE), json!("5s"), json!("?")],
        );
        let claim = json!({"status": {"allocation": {}, "reservedFor": [{}]}});
        check("resource.k8s.io", "ResourceClaim", claim, &[json!("x"), json!("allocated,reserved"), json!("5s")]);
        check("resource.k8s.io", "ResourceClaim", json!({}), &[json!("x"), json!("pending"), json!("5s")]);
    }
}
