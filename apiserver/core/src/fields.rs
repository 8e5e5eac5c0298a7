//! Fields that field selectors may name, by kind (kubernetes `pkg/registry/*/strategy.go`, `ToSelectableFields`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use xebec_api::meta;
use xebec_api::selector::FieldSelector;

/// Dotted paths selectable for a kind, besides `metadata.name` and `metadata.namespace`.
pub fn selectable(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "Event") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "Secret") => &["type"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase", "name"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("", "PersistentVolume") | ("", "PersistentVolumeClaim") => &["name"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["spec.signerName"],
        ("certificates.k8s.io", "ClusterTrustBundle") => &["spec.signerName"],
        ("networking.k8s.io", "IPAddress") => &["spec.parentRef.resource", "spec.parentRef.name"],
        ("resource.k8s.io", "ResourceSlice") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

/// Everything a stored object may be selected by. Events are one object with two sets of names, whichever of the two
/// groups asks first.
pub fn of_stored(group: &str, kind: &str, object: &Value) -> BTreeMap<String, String> {
    let other = match (group, kind) {
        ("", "Event") => selectable("events.k8s.io", kind),
        ("events.k8s.io", "Event") => selectable("", kind),
        _ => &[],
    };
    let names = ["metadata.name", "metadata.namespace"].iter().chain(selectable(group, kind)).chain(other);
    names.map(|name| ((*name).to_owned(), value(object, name).into_owned())).collect()
}

/// A field's value as selectors compare it: absent is `""`, booleans and numbers print.
pub fn value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let path: Vec<&str> = match field {
        "name" => vec!["metadata", "name"],
        "status.successful" => vec!["status", "succeeded"],
        "source" => vec!["source", "component"],
        // Events are stored with the names of the core group.
        "reportingController" => vec!["reportingComponent"],
        _ => match field.strip_prefix("regarding.") {
            Some(rest) => vec!["involvedObject", rest],
            None => field.split('.').collect(),
        },
    };
    let found = match meta::get(object, &path) {
        // A field path of core events may name the source by either of its two fields.
        None if field == "source" => meta::get(object, &["reportingComponent"]),
        found => found,
    };
    match found {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Bool(flag)) => Cow::Owned(flag.to_string()),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Array(items)) => {
            let ips = items.iter().map(|item| meta::str_at(item, &["ip"]));
            Cow::Owned(ips.collect::<Vec<_>>().join(","))
        }
        _ => Cow::Borrowed(match field {
            "spec.unschedulable" | "spec.hostNetwork" => "false",
            "status.replicas" | "status.successful" => "0",
            _ => "",
        }),
    }
}

/// Checks that a selector names selectable fields only; `extra` are a custom kind's own.
///
/// # Errors
/// Upstream's text for 400.
pub fn check(selector: &FieldSelector, group: &str, version: &str, kind: &str, extra: &[String]) -> Result<(), String> {
    let known = selectable(group, kind);
    for requirement in selector.requirements() {
        let field = requirement.field.as_str();
        let generic = matches!(field, "metadata.name" | "metadata.namespace");
        if !generic && !known.contains(&field) && !extra.iter().any(|e| e == field) {
            let prefix = if known.is_empty() { format!("{group}/{version}, Kind={kind}") } else { String::new() };
            return Err(match prefix.as_str() {
                "" => format!("field label not supported: {field}"),
                _ => format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
            });
        }
    }
    Ok(())
}

/// Whether an object fits a checked selector.
pub fn matches(selector: &FieldSelector, object: &Value) -> bool {
    let values: Vec<(String, Cow<'_, str>)> =
        selector.requirements().iter().map(|r| (r.field.clone(), value(object, &r.field))).collect();
    selector.matches(|field| values.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(selector: &str, object: Value) -> bool {
        matches(&FieldSelector::parse(selector).expect("parses"), &object)
    }

    #[test]
    fn pods_are_selected_by_node_and_phase() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
        assert!(fits("spec.nodeName=n1,status.phase!=Failed", pod.clone()));
        assert!(!fits("spec.nodeName=", pod.clone()));
        assert!(fits("metadata.name=a,status.podIPs=10.0.0.1", pod));
        assert!(fits("spec.unschedulable=false", json!({})));
        assert!(fits("spec.nodeName=", json!({"spec": {}})));
    }

    #[test]
    fn a_stored_event_is_selected_by_the_names_of_both_its_groups() {
        let event = json!({"involvedObject": {"name": "p"}, "reportingComponent": "kubelet", "type": "Normal"});
        for group in ["", "events.k8s.io"] {
            let fields = of_stored(group, "Event", &event);
            for (name, expected) in [
                ("involvedObject.name", "p"),
                ("regarding.name", "p"),
                ("reportingController", "kubelet"),
                ("source", "kubelet"),
                ("type", "Normal"),
            ] {
                assert_eq!(fields.get(name).map(String::as_str), Some(expected), "{group} {name}");
            }
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let selector = FieldSelector::parse("spec.foo=1").expect("parses");
        assert_eq!(check(&selector, "", "v1", "Pod", &[]), Err("field label not supported: spec.foo".into()));
        assert!(check(&selector, "e.com", "v1", "W", &["spec.foo".into()]).is_ok());
        assert!(check(&selector, "", "v1", "ConfigMap", &[]).is_err());
    }
}
