//! Pods and pod templates.

use serde_json::{Map, Value, json};
use xebec_api::meta;

use super::{absent, child, empty, existing, items};

/// Mode bits of files from secrets, config maps, projections and the downward API: 0644.
const VOLUME_FILE_MODE: i64 = 0o644;

/// A Pod.
pub fn pod(object: &mut Value) {
    let spec = child(object, "spec");
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            requests_from_limits(container);
        }
    }
    absent(spec, "enableServiceLinks", true);
    pod_spec(spec);
    let status = child(object, "status");
    empty(status, "phase", "Pending");
}

/// A PodTemplate object.
pub fn pod_template(object: &mut Value) {
    if let Some(template) = existing(object, "template") {
        pod_spec(child(template, "spec"));
    }
}

/// A pod's spec, in a Pod or a template.
pub fn pod_spec(spec: &mut Value) {
    empty(spec, "dnsPolicy", "ClusterFirst");
    empty(spec, "restartPolicy", "Always");
    empty(spec, "schedulerName", "default-scheduler");
    absent(spec, "securityContext", Map::new());
    absent(spec, "terminationGracePeriodSeconds", 30);
    // Two names of one field (conversion.go keeps them equal).
    let account = meta::str_at(spec, &["serviceAccountName"]).to_owned();
    let legacy = meta::str_at(spec, &["serviceAccount"]).to_owned();
    if !account.is_empty() {
        spec["serviceAccount"] = account.into();
    } else if !legacy.is_empty() {
        spec["serviceAccountName"] = legacy.into();
    }
    let host_network = meta::bool_at(spec, &["hostNetwork"]);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for one in items(spec, list) {
            container(one, host_network && list != "ephemeralContainers");
        }
    }
    items(spec, "volumes").for_each(volume);
    for constraint in items(spec, "topologySpreadConstraints") {
        empty(constraint, "whenUnsatisfiable", "DoNotSchedule");
    }
}

fn container(container: &mut Value, host_network: bool) {
    let policy = if wants_latest(meta::str_at(container, &["image"])) { "Always" } else { "IfNotPresent" };
    empty(container, "imagePullPolicy", policy);
    empty(container, "terminationMessagePath", "/dev/termination-log");
    empty(container, "terminationMessagePolicy", "File");
    absent(container, "resources", Map::new());
    for port in items(container, "ports") {
        empty(port, "protocol", "TCP");
        let number = port.get("containerPort").cloned().unwrap_or(Value::Null);
        if host_network && meta::i64_at(port, &["hostPort"]).unwrap_or(0) == 0 {
            port["hostPort"] = number;
        }
    }
    for env in items(container, "env") {
        if let Some(reference) = env.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            empty(reference, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(one) = existing(container, name) {
            probe(one);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) =
            container.get_mut("lifecycle").and_then(|l| l.get_mut(hook)).and_then(|h| existing(h, "httpGet"))
        {
            http_get(get);
        }
    }
}

fn probe(probe: &mut Value) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if meta::i64_at(probe, &[key]).unwrap_or(0) == 0 {
            probe[key] = value.into();
        }
    }
    if let Some(get) = existing(probe, "httpGet") {
        http_get(get);
    }
    if let Some(grpc) = existing(probe, "grpc") {
        absent(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    empty(get, "path", "/");
    empty(get, "scheme", "HTTP");
}

/// Whether an image reference has the tag `latest`, said or implied; a digest implies no tag.
fn wants_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = meta::get(container, &["resources", "limits"]).and_then(Value::as_object).cloned() else {
        return;
    };
    let requests = child(child(container, "resources"), "requests");
    for (name, quantity) in limits {
        absent(requests, &name, quantity);
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    if map.iter().all(|(key, value)| key == "name" || value.is_null()) {
        map.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = existing(volume, source) {
            absent(source, "defaultMode", VOLUME_FILE_MODE);
        }
    }
    if let Some(path) = existing(volume, "hostPath") {
        absent(path, "type", "");
    }
    if let Some(downward) = existing(volume, "downwardAPI") {
        items(downward, "items").for_each(field_ref);
    }
    if let Some(projected) = existing(volume, "projected") {
        for source in items(projected, "sources") {
            if let Some(downward) = existing(source, "downwardAPI") {
                items(downward, "items").for_each(field_ref);
            }
            if let Some(token) = existing(source, "serviceAccountToken") {
                absent(token, "expirationSeconds", 3600);
            }
        }
    }
    if let Some(iscsi) = existing(volume, "iscsi") {
        empty(iscsi, "iscsiInterface", "default");
    }
    if let Some(claim) = volume.get_mut("ephemeral").and_then(|e| e.get_mut("volumeClaimTemplate")) {
        absent(child(claim, "spec"), "volumeMode", "Filesystem");
    }
}

fn field_ref(item: &mut Value) {
    if let Some(reference) = existing(item, "fieldRef") {
        empty(reference, "apiVersion", "v1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_pod_gets_upstreams_values() {
        let mut object = json!({"spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]}});
        pod(&mut object);
        let expected = json!({"spec": {
            "containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                    "successThreshold": 1, "failureThreshold": 3},
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "enableServiceLinks": true},
            "status": {"phase": "Pending"}});
        assert_eq!(object, expected);
        let again = object.clone();
        pod(&mut object);
        assert_eq!(object, again);
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("host:5000/nginx", true),
            ("host:5000/nginx:1", false),
            ("nginx@sha256:00", false),
            ("", true),
        ] {
            assert_eq!(wants_latest(image), latest, "{image}");
        }
    }
}
