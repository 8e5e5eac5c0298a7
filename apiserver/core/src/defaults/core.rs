//! The smaller kinds of the core group.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use xebec_api::meta;

use super::{absent, child, empty, existing, items};

/// A Namespace: the name label, by which selectors find it, is the server's.
pub fn namespace(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if !name.is_empty() {
        meta::set_label(object, "kubernetes.io/metadata.name", &name);
    }
    empty(child(object, "status"), "phase", "Active");
}

/// A Node: allocatable is capacity where nobody reserved anything.
pub fn node(object: &mut Value) {
    absent(object, "spec", Map::new());
    if let Some(status) = existing(object, "status")
        && let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned()
    {
        absent(status, "allocatable", capacity);
    }
}

/// A Secret: what came as text is kept as bytes, and wins (core/v1 `Convert_v1_Secret_To_core_Secret`).
pub fn secret(object: &mut Value) {
    empty(object, "type", "Opaque");
    let Some(Value::Object(texts)) = meta::remove(object, &["stringData"]) else { return };
    if texts.is_empty() {
        return;
    }
    let data = child(object, "data");
    for (key, text) in texts {
        data[&key] = STANDARD.encode(text.as_str().unwrap_or("")).into();
    }
}

/// Endpoints.
pub fn endpoints(object: &mut Value) {
    for subset in items(object, "subsets") {
        items(subset, "ports").for_each(|port| empty(port, "protocol", "TCP"));
    }
}

/// A PersistentVolume.
pub fn persistent_volume(object: &mut Value) {
    let spec = child(object, "spec");
    empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    absent(spec, "volumeMode", "Filesystem");
    if let Some(path) = existing(spec, "hostPath") {
        absent(path, "type", "");
    }
    empty(child(object, "status"), "phase", "Pending");
}

/// A PersistentVolumeClaim, also as a template.
pub fn persistent_volume_claim(object: &mut Value) {
    let spec = child(object, "spec");
    absent(spec, "volumeMode", "Filesystem");
    absent(spec, "resources", Map::new());
    if let Some(source) = spec.get("dataSource").filter(|s| s.is_object()).cloned() {
        absent(spec, "dataSourceRef", source);
    }
    empty(child(object, "status"), "phase", "Pending");
}

/// An Event (of either group): counts from 1, both times alike.
pub fn event(object: &mut Value) {
    for key in ["source", "involvedObject", "regarding"] {
        if object.get(key).is_some_and(Value::is_null) {
            meta::remove(object, &[key]);
        }
    }
}

/// A LimitRange: maxima are defaults, and defaults are default requests.
pub fn limit_range(object: &mut Value) {
    let Some(spec) = existing(object, "spec") else { return };
    for item in items(spec, "limits") {
        if meta::str_at(item, &["type"]) != "Container" {
            continue;
        }
        let max = item.get("max").and_then(Value::as_object).cloned().unwrap_or_default();
        let min = item.get("min").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut fill = |key: &str, from: Map<String, Value>| {
            if !from.is_empty() {
                let target = child(item, key);
                from.into_iter().for_each(|(name, quantity)| absent(target, &name, quantity));
            }
        };
        fill("default", max);
        fill("defaultRequest", min);
        let default = item.get("default").cloned().unwrap_or(json!({}));
        if let Some(default) = default.as_object().filter(|d| !d.is_empty()) {
            let requests = child(item, "defaultRequest");
            default.iter().for_each(|(name, quantity)| absent(requests, name, quantity.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_secrets_becomes_data() {
        let mut object = json!({"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}});
        secret(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "bmV3", "b": "Yg=="}}));
    }
}
