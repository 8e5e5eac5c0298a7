//! Volumes and their classes (kubernetes `pkg/apis/core/validation` and `pkg/apis/storage/validation`).

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{meta, name_rules};

use super::{one_of, problems, require};

/// Fields of a PersistentVolume's spec that are no source of the volume.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// A PersistentVolume has a size, a way to be used, and exactly one source.
pub fn persistent_volume(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let modes = meta::list_at(spec, &["accessModes"]);
    if modes.is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    let unknown = modes.iter().filter(|mode| !mode.as_str().is_some_and(|mode| ACCESS_MODES.contains(&mode)));
    errors.extend(unknown.map(|mode| Error::not_supported(&path.child("accessModes"), mode.clone(), &ACCESS_MODES)));
    match spec.get("capacity").and_then(Value::as_object).filter(|capacity| !capacity.is_empty()) {
        None => errors.push(Error::required(&path.child("capacity"), "")),
        Some(capacity) if capacity.len() > 1 || !capacity.contains_key("storage") => {
            errors.push(Error::not_supported(&path.child("capacity"), Value::Object(capacity.clone()), &["storage"]));
        }
        Some(_) => {}
    }
    errors.extend(one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], &path));
    errors.extend(one_of(spec, "volumeMode", &["Block", "Filesystem"], &path));
    let mut sources = spec
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !value.is_null() && !NOT_SOURCES.contains(&key.as_str()));
    if sources.next().is_none() {
        errors.push(Error::required(&path, "must specify a volume type"));
    }
    errors
        .extend(sources.map(|(key, _)| Error::forbidden(&path.child(key), "may not specify more than 1 volume type")));
    errors
}

/// A StorageClass.
pub fn storage_class(object: &Value) -> Vec<Error> {
    let root = Path::root();
    let mut errors = require(object, &["provisioner"], &root);
    errors.extend(one_of(object, "reclaimPolicy", &["Delete", "Retain"], &root));
    errors.extend(one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root));
    errors
}

/// A VolumeAttachment.
pub fn volume_attachment(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = require(spec, &["attacher"], &path);
    let source = path.child("source");
    let has = |key: &str| spec["source"].get(key).is_some_and(|value| !value.is_null());
    match (has("inlineVolumeSpec"), has("persistentVolumeName")) {
        (false, false) => errors
            .push(Error::required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")),
        (true, true) => errors
            .push(Error::forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")),
        _ => {}
    }
    let node = meta::str_at(spec, &["nodeName"]);
    errors.extend(problems(&path.child("nodeName"), node, name_rules::dns_subdomain(node)));
    errors
}

/// A VolumeAttributesClass.
pub fn volume_attributes_class(object: &Value) -> Vec<Error> {
    let mut errors = require(object, &["driverName"], &Path::root());
    if object.get("parameters").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&Path::new("parameters"), "must contain at least one key/value pair"));
    }
    errors
}

/// A CSIStorageCapacity.
pub fn csi_storage_capacity(object: &Value) -> Vec<Error> {
    require(object, &["storageClassName"], &Path::root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field.as_str().to_owned()).collect()
    }

    #[test]
    fn volumes_have_one_source_and_a_size() {
        let check =
            |spec: Value, expected: &[&str]| assert_eq!(fields(persistent_volume(&json!({"spec": spec}))), expected);
        check(json!({}), &["spec.accessModes", "spec.capacity", "spec"]);
        let good = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"},
            "claimRef": {"name": "c"}});
        check(good.clone(), &[]);
        let mut two = good.clone();
        two["nfs"] = json!({"server": "s", "path": "/"});
        check(two, &["spec.nfs"]);
        let mut odd = good;
        odd["capacity"] = json!({"cpu": "1"});
        odd["accessModes"] = json!(["Sometimes"]);
        check(odd, &["spec.accessModes", "spec.capacity"]);
    }

    #[test]
    fn classes_and_attachments_are_checked() {
        assert_eq!(fields(storage_class(&json!({"reclaimPolicy": "Keep"}))), ["provisioner", "reclaimPolicy"]);
        assert_eq!(fields(volume_attributes_class(&json!({}))), ["driverName", "parameters"]);
        assert_eq!(fields(csi_storage_capacity(&json!({}))), ["storageClassName"]);
        let attachment = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert!(volume_attachment(&attachment).is_empty());
        assert_eq!(fields(volume_attachment(&json!({"spec": {"attacher": "a", "nodeName": "n"}}))), ["spec.source"]);
    }
}
