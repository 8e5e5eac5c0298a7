//! The cells of each kind, in the order of its columns.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use xebec_api::meta;
use xebec_api::selector::LabelSelector;

use super::detail::{
    autoscaler_targets, csr_condition, endpoint_slice, endpoints, event, external_ip, ingress, job, node,
    persistent_volume, persistent_volume_claim, resource_quota, service_ports,
};
use super::duration::{human_duration, since};
use super::{extension, pod};

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";

pub(super) fn of(group: &str, kind: &str, o: &Value, now: Timestamp) -> Vec<Value> {
    let name = json!(meta::name(o));
    let age = json!(since(meta::creation_timestamp(o), now));
    match (group, kind) {
        ("", _) => core(kind, o, name, age, now),
        ("apps" | "batch" | "autoscaling" | "policy", _) => workload(kind, o, name, age, now),
        _ => other(group, kind, o, name, age, now),
    }
}

pub(super) fn text(o: &Value, path: &[&str]) -> Value {
    json!(meta::str_at(o, path))
}

pub(super) fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { NONE } else { text })
}

pub(super) fn or_unset(text: &str) -> Value {
    json!(if text.is_empty() { UNSET } else { text })
}

pub(super) fn number(o: &Value, path: &[&str]) -> Value {
    json!(meta::i64_at(o, path).unwrap_or(0))
}

pub(super) fn count(o: &Value, key: &str) -> usize {
    o.get(key).map_or(0, |v| v.as_object().map_or_else(|| v.as_array().map_or(0, Vec::len), Map::len))
}

fn core(kind: &str, o: &Value, name: Value, age: Value, now: Timestamp) -> Vec<Value> {
    match kind {
        "Pod" => pod::cells(o, now),
        "PodTemplate" => {
            let (names, images) = containers(&o["template"]);
            vec![name, names, images, labels(&o["template"]["metadata"]["labels"])]
        }
        "Service" => {
            let spec = &o["spec"];
            let internal = meta::str_at(spec, &["clusterIP"]);
            vec![
                name,
                text(spec, &["type"]),
                or_none(internal),
                external_ip(o),
                service_ports(spec),
                age,
                labels(&spec["selector"]),
            ]
        }
        "Node" => node(o, name, age),
        "Namespace" => vec![name, text(o, &["status", "phase"]), age],
        "Event" => event(o, name, now, "involvedObject", "message"),
        "Endpoints" => vec![name, endpoints(o), age],
        "ConfigMap" => vec![name, json!(count(o, "data") + count(o, "binaryData")), age],
        "Secret" => vec![name, text(o, &["type"]), json!(count(o, "data")), age],
        "ServiceAccount" => vec![name, json!(count(o, "secrets")), age],
        "PersistentVolume" => persistent_volume(o, name, age),
        "PersistentVolumeClaim" => persistent_volume_claim(o, name, age),
        "ReplicationController" => {
            let (names, images) = containers(&o["spec"]["template"]);
            vec![
                name,
                number(o, &["spec", "replicas"]),
                number(o, &["status", "replicas"]),
                number(o, &["status", "readyReplicas"]),
                age,
                names,
                images,
                labels(&o["spec"]["selector"]),
            ]
        }
        "ResourceQuota" => resource_quota(o, name, age),
        "ComponentStatus" => {
            let condition = meta::list_at(o, &["conditions"]).iter().find(|c| meta::str_at(c, &["type"]) == "Healthy");
            let field = |key: &str| condition.map_or("", |c| meta::str_at(c, &[key])).to_owned();
            let healthy = if field("status") == "True" { "Healthy" } else { "Unhealthy" };
            vec![name, json!(healthy), json!(field("message")), json!(field("error"))]
        }
        _ => vec![name, age],
    }
}

fn workload(kind: &str, o: &Value, name: Value, age: Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(&o["spec"]["template"]);
    let status = |key: &str| number(o, &["status", key]);
    let selector = || selector(&o["spec"]["selector"]);
    let ready = || json!(format!("{}/{}", status("readyReplicas"), number(o, &["spec", "replicas"])));
    match kind {
        "Deployment" => {
            vec![name, ready(), status("updatedReplicas"), status("availableReplicas"), age, names, images, selector()]
        }
        "ReplicaSet" => {
            vec![
                name,
                number(o, &["spec", "replicas"]),
                status("replicas"),
                status("readyReplicas"),
                age,
                names,
                images,
                selector(),
            ]
        }
        "StatefulSet" => vec![name, ready(), age, names, images],
        "DaemonSet" => vec![
            name,
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            labels(&o["spec"]["template"]["spec"]["nodeSelector"]),
            age,
            names,
            images,
            selector(),
        ],
        "ControllerRevision" => controller_revision(o, name, age),
        "Job" => {
            let (state, completions, duration) = job(o, now);
            vec![name, json!(state), json!(completions), json!(duration), age, names, images, selector()]
        }
        "CronJob" => cron_job(o, name, age, now),
        "HorizontalPodAutoscaler" => vec![
            name,
            json!(format!(
                "{}/{}",
                meta::str_at(o, &["spec", "scaleTargetRef", "kind"]),
                meta::str_at(o, &["spec", "scaleTargetRef", "name"])
            )),
            json!(autoscaler_targets(o)),
            meta::i64_at(o, &["spec", "minReplicas"]).map_or_else(|| json!(UNSET), |n| json!(n.to_string())),
            json!(meta::i64_at(o, &["spec", "maxReplicas"]).unwrap_or(0).to_string()),
            status("currentReplicas"),
            age,
        ],
        "Scale" => vec![name, number(o, &["spec", "replicas"]), status("replicas"), age],
        "PodDisruptionBudget" => {
            let bound = |key: &str| o["spec"].get(key).map_or_else(|| json!("N/A"), |v| json!(plain(v)));
            vec![name, bound("minAvailable"), bound("maxUnavailable"), status("disruptionsAllowed"), age]
        }
        _ => vec![name, age],
    }
}

fn controller_revision(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let owner = meta::controller_of(o).map_or_else(
        || NONE.to_owned(),
        |owner| {
            let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
        },
    );
    vec![name, json!(owner), number(o, &["revision"]), age]
}

fn cron_job(o: &Value, name: Value, age: Value, now: Timestamp) -> Vec<Value> {
    let (names, images) = containers(&o["spec"]["jobTemplate"]["spec"]["template"]);
    let last = meta::get(o, &["status", "lastScheduleTime"]).and_then(Value::as_str);
    vec![
        name,
        text(o, &["spec", "schedule"]),
        or_none(meta::str_at(o, &["spec", "timeZone"])),
        json!(if meta::bool_at(o, &["spec", "suspend"]) { "True" } else { "False" }),
        json!(meta::list_at(o, &["status", "active"]).len()),
        last.map_or_else(|| json!(NONE), |last| json!(since(Some(last), now))),
        age,
        names,
        images,
        labels(&o["spec"]["jobTemplate"]["spec"]["selector"]["matchLabels"]),
    ]
}

fn other(group: &str, kind: &str, o: &Value, name: Value, age: Value, now: Timestamp) -> Vec<Value> {
    let yes = |path: &[&str]| json!(meta::bool_at(o, path));
    match (group, kind) {
        ("events.k8s.io", "Event") => event(o, name, now, "regarding", "note"),
        ("networking.k8s.io", "Ingress") => ingress(o, name, age),
        ("networking.k8s.io", "IngressClass") => {
            let parameters = &o["spec"]["parameters"];
            let shown = if parameters.is_object() {
                let group = meta::str_at(parameters, &["apiGroup"]);
                let group = if group.is_empty() { String::new() } else { format!(".{group}") };
                format!("{}{group}/{}", meta::kind(parameters), meta::str_at(parameters, &["name"]))
            } else {
                NONE.into()
            };
            vec![name, text(o, &["spec", "controller"]), json!(shown), age]
        }
        ("networking.k8s.io", "NetworkPolicy") => vec![name, selector(&o["spec"]["podSelector"]), age],
        ("networking.k8s.io", "IPAddress") => {
            let parent = &o["spec"]["parentRef"];
            let parts = ["resource", "namespace", "name"].map(|key| meta::str_at(parent, &[key]));
            vec![name, json!(parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")), age]
        }
        ("networking.k8s.io", "ServiceCIDR") => vec![name, json!(strings(&o["spec"]["cidrs"]).join(",")), age],
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(o, name, age),
        ("coordination.k8s.io", "Lease") => vec![name, text(o, &["spec", "holderIdentity"]), age],
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            let duration =
                meta::i64_at(o, &["spec", "expirationSeconds"]).map_or_else(|| NONE.to_owned(), human_duration);
            vec![
                name,
                age,
                text(o, &["spec", "signerName"]),
                text(o, &["spec", "username"]),
                json!(duration),
                json!(csr_condition(o)),
            ]
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let of = |kind: &str| {
                let subjects = meta::list_at(o, &["subjects"]).iter().filter(|s| meta::kind(s) == kind);
                let shown = subjects.map(|s| match meta::str_at(s, &["namespace"]) {
                    "" => meta::str_at(s, &["name"]).to_owned(),
                    namespace => format!("{namespace}/{}", meta::str_at(s, &["name"])),
                });
                json!(shown.collect::<Vec<_>>().join(", "))
            };
            let role = format!("{}/{}", meta::str_at(o, &["roleRef", "kind"]), meta::str_at(o, &["roleRef", "name"]));
            vec![name, json!(role), age, of("User"), of("Group"), of("ServiceAccount")]
        }
        ("rbac.authorization.k8s.io", _) | ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            vec![name, text(o, &["metadata", "creationTimestamp"])]
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            vec![name, number(o, &["value"]), yes(&["globalDefault"]), age, text(o, &["preemptionPolicy"])]
        }
        ("storage.k8s.io", _) => storage(kind, o, name, age),
        ("node.k8s.io", "RuntimeClass") => vec![name, text(o, &["handler"]), age],
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            vec![name, json!(count(o, "webhooks")), age]
        }
        ("apiregistration.k8s.io", "APIService") => api_service(o, name, age),
        _ => extension::cells(group, kind, o, name, age),
    }
}

fn api_service(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let service = &o["spec"]["service"];
    let shown = if service.is_object() {
        format!("{}/{}", meta::str_at(service, &["namespace"]), meta::str_at(service, &["name"]))
    } else {
        "Local".into()
    };
    let available =
        meta::list_at(o, &["status", "conditions"]).iter().find(|c| meta::str_at(c, &["type"]) == "Available");
    let available = available.map_or_else(
        || "Unknown".to_owned(),
        |c| match meta::str_at(c, &["status"]) {
            "True" => "True".into(),
            status => format!("{status} ({})", meta::str_at(c, &["reason"])),
        },
    );
    vec![name, json!(shown), json!(available), age]
}

fn storage(kind: &str, o: &Value, name: Value, age: Value) -> Vec<Value> {
    let yes = |path: &[&str]| json!(meta::bool_at(o, path));
    match kind {
        "StorageClass" => {
            let default = meta::annotation(o, "storageclass.kubernetes.io/is-default-class") == Some("true");
            let name = if default { json!(format!("{} (default)", meta::name(o))) } else { name };
            vec![
                name,
                text(o, &["provisioner"]),
                text(o, &["reclaimPolicy"]),
                text(o, &["volumeBindingMode"]),
                yes(&["allowVolumeExpansion"]),
                age,
            ]
        }
        "CSIDriver" => {
            let audiences: Vec<&str> =
                meta::list_at(o, &["spec", "tokenRequests"]).iter().map(|t| meta::str_at(t, &["audience"])).collect();
            let tokens = if audiences.is_empty() { UNSET.to_owned() } else { audiences.join(",") };
            let attach = meta::get(o, &["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true);
            let modes = strings(&o["spec"]["volumeLifecycleModes"]).join(",");
            let flag = |key: &str| json!(meta::bool_at(o, &["spec", key]));
            vec![
                name,
                json!(attach),
                flag("podInfoOnMount"),
                flag("storageCapacity"),
                json!(tokens),
                flag("requiresRepublish"),
                or_none(&modes),
                age,
            ]
        }
        "CSINode" => vec![name, json!(count(&o["spec"], "drivers")), age],
        "VolumeAttributesClass" => vec![name, text(o, &["driverName"]), age],
        "VolumeAttachment" => vec![
            name,
            text(o, &["spec", "attacher"]),
            text(o, &["spec", "source", "persistentVolumeName"]),
            text(o, &["spec", "nodeName"]),
            yes(&["status", "attached"]),
            age,
        ],
        _ => vec![name, age],
    }
}

pub(super) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn labels(map: &Value) -> Value {
    let pairs: Vec<String> = map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", plain(v))).collect();
    or_none(&pairs.join(","))
}

fn selector(value: &Value) -> Value {
    let shown = LabelSelector::from_object(value).map_or_else(|_| String::new(), |selector| selector.to_string());
    or_none(&shown)
}

fn containers(template: &Value) -> (Value, Value) {
    let list = meta::list_at(template, &["spec", "containers"]);
    let join = |key: &str| json!(list.iter().map(|c| meta::str_at(c, &[key])).collect::<Vec<_>>().join(","));
    (join("name"), join("image"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(group: &str, kind: &str, object: Value, expected: &[Value]) {
        let now = "2026-11-21T02:00:00Z".parse().expect("a time");
        assert_eq!(of(group, kind, &object, now), expected, "{kind}");
    }

    #[test]
    fn rows_read_as_upstream() {
        let m = json!({"name": "x", "creationTimestamp": "2026-11-21T01:59:30Z"});
        check(
            "apps",
            "Deployment",
            json!({"metadata": m, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}, "status": {"readyReplicas": 2, "updatedReplicas": 3}}),
            &[json!("x"), json!("2/3"), json!(3), json!(0), json!("30s"), json!("c"), json!("i"), json!("a=b")],
        );
        check(
            "",
            "Service",
            json!({"metadata": m, "spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            &[
                json!("x"),
                json!("NodePort"),
                json!("10.96.0.5"),
                json!("<none>"),
                json!("80:30080/TCP,53/UDP"),
                json!("30s"),
                json!("a=b"),
            ],
        );
        check(
            "",
            "Node",
            json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.35.0"},
                    "addresses": [{"type": "InternalIP", "address": "10.77.0.21"}]}}),
            &[
                json!("n"),
                json!("Ready,SchedulingDisabled"),
                json!("worker"),
                json!("<unknown>"),
                json!("v1.35.0"),
                json!("10.77.0.21"),
                json!("<none>"),
                json!("<unknown>"),
                json!("<unknown>"),
                json!("<unknown>"),
            ],
        );
        check(
            "batch",
            "Job",
            json!({"metadata": m, "spec": {"completions": 1, "template": {"spec": {}}}, "status": {"succeeded": 1, "startTime": "2026-11-21T01:59:30Z",
                "completionTime": "2026-11-21T01:59:40Z", "conditions": [{"type": "Complete", "status": "True"}]}}),
            &[
                json!("x"),
                json!("Complete"),
                json!("1/1"),
                json!("10s"),
                json!("30s"),
                json!(""),
                json!(""),
                json!("<none>"),
            ],
        );
        check(
            "",
            "Endpoints",
            json!({"metadata": m, "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
            &[json!("x"), json!("1.1.1.1:1,1.1.1.1:2,1.1.1.2:1 + 1 more..."), json!("30s")],
        );
    }
}
