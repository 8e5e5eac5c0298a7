//! Reading and writing `metadata`, and anything else by path, in objects that are `serde_json::Value`s.
//!
//! Readers never fail: what is absent or of another type reads as empty, as a Go zero value would.

use serde_json::{Map, Value};

use crate::gvk::{GroupVersionKind, ParseGroupVersionError};

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// The owner's `apiVersion`.
    pub api_version: &'a str,
    /// The owner's kind.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
    /// The owner's UID.
    pub uid: &'a str,
    /// Whether this owner manages the object.
    pub controller: bool,
    /// Whether the owner's foreground deletion waits for the object.
    pub block_owner_deletion: bool,
}

/// The value at `path`, stepping through objects only.
pub fn get<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| value.get(*step))
}

/// The value at `path` for changing.
pub fn get_mut<'a>(object: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |value, step| value.get_mut(*step))
}

/// The string at `path`, `""` when absent.
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or("")
}

/// The integer at `path`.
pub fn i64_at(object: &Value, path: &[&str]) -> Option<i64> {
    get(object, path).and_then(Value::as_i64)
}

/// The boolean at `path`, `false` when absent.
pub fn bool_at(object: &Value, path: &[&str]) -> bool {
    get(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of the list at `path`, none when absent.
pub fn list_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    get(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets the value at `path`, making objects on the way and replacing what is not an object.
pub fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut place = object;
    for step in path {
        place = object_mut(place).entry(*step).or_insert(Value::Null);
    }
    *place = value;
}

/// Removes and returns the value at `path`.
pub fn remove(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    get_mut(object, parents)?.as_object_mut()?.remove(*last)
}

fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// `metadata` for changing, made if absent.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    object_mut(object_mut(object).entry("metadata").or_insert(Value::Null))
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    str_at(object, &["apiVersion"])
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    str_at(object, &["kind"])
}

/// `apiVersion` and `kind` together.
pub fn gvk(object: &Value) -> Result<GroupVersionKind, ParseGroupVersionError> {
    GroupVersionKind::from_api_version(api_version(object), kind(object))
}

/// Sets `apiVersion` and `kind`.
pub fn set_gvk(object: &mut Value, gvk: &GroupVersionKind) {
    let map = object_mut(object);
    map.insert("apiVersion".into(), Value::from(gvk.api_version()));
    map.insert("kind".into(), Value::from(gvk.kind.as_str()));
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    str_at(object, &["metadata", "name"])
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    str_at(object, &["metadata", "generateName"])
}

/// `metadata.namespace`, `""` for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    str_at(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    str_at(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    str_at(object, &["metadata", "resourceVersion"])
}

/// `metadata.generation`, 0 when absent.
pub fn generation(object: &Value) -> i64 {
    i64_at(object, &["metadata", "generation"]).unwrap_or(0)
}

/// `metadata.creationTimestamp`, RFC 3339.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    get(object, &["metadata", "creationTimestamp"])?.as_str()
}

/// `metadata.deletionTimestamp`, RFC 3339; present while the object is being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    get(object, &["metadata", "deletionTimestamp"])?.as_str()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    i64_at(object, &["metadata", "deletionGracePeriodSeconds"])
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    get(object, &["metadata", "labels"])?.as_object()
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    get(object, &["metadata", "annotations"])?.as_object()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    list_at(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> Vec<OwnerReference<'_>> {
    list_at(object, &["metadata", "ownerReferences"])
        .iter()
        .map(|owner| OwnerReference {
            api_version: str_at(owner, &["apiVersion"]),
            kind: str_at(owner, &["kind"]),
            name: str_at(owner, &["name"]),
            uid: str_at(owner, &["uid"]),
            controller: bool_at(owner, &["controller"]),
            block_owner_deletion: bool_at(owner, &["blockOwnerDeletion"]),
        })
        .collect()
}

/// The owner that manages the object, if any.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).into_iter().find(|owner| owner.controller)
}

/// Sets `metadata.<field>`; an empty string removes it, as Go's omitempty would.
pub fn set_str(object: &mut Value, field: &str, value: &str) {
    let metadata = metadata_mut(object);
    if value.is_empty() {
        metadata.remove(field);
    } else {
        metadata.insert(field.to_owned(), Value::from(value));
    }
}

/// Sets `metadata.name`.
pub fn set_name(object: &mut Value, name: &str) {
    set_str(object, "name", name);
}

/// Sets `metadata.namespace`.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_str(object, "namespace", namespace);
}

/// Sets `metadata.uid`.
pub fn set_uid(object: &mut Value, uid: &str) {
    set_str(object, "uid", uid);
}

/// Sets `metadata.resourceVersion`.
pub fn set_resource_version(object: &mut Value, revision: u64) {
    let text = if revision == 0 { String::new() } else { revision.to_string() };
    set_str(object, "resourceVersion", &text);
}

/// Sets `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    let metadata = metadata_mut(object);
    if generation == 0 {
        metadata.remove("generation");
    } else {
        metadata.insert("generation".into(), Value::from(generation));
    }
}

/// Sets `metadata.finalizers`; an empty list removes it.
pub fn set_finalizers<S: AsRef<str>>(object: &mut Value, finalizers: &[S]) {
    let metadata = metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.iter().map(|f| Value::from(f.as_ref())).collect());
    }
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    object_mut(metadata_mut(object).entry("labels").or_insert(Value::Null)).insert(key.to_owned(), Value::from(value));
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    object_mut(metadata_mut(object).entry("annotations").or_insert(Value::Null))
        .insert(key.to_owned(), Value::from(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_made_read_and_removed() {
        let mut pod = json!({"metadata": {"name": "a"}});
        set(&mut pod, &["spec", "nodeName"], json!("n1"));
        assert_eq!(str_at(&pod, &["spec", "nodeName"]), "n1");
        assert_eq!(remove(&mut pod, &["spec", "nodeName"]), Some(json!("n1")));
        assert_eq!(remove(&mut pod, &["status", "phase"]), None);
        set_label(&mut pod, "app", "web");
        set_resource_version(&mut pod, 7);
        set_finalizers(&mut pod, &["x/y"]);
        assert_eq!(
            pod,
            json!({"metadata": {"name": "a", "labels": {"app": "web"}, "resourceVersion": "7", "finalizers": ["x/y"]}, "spec": {}})
        );
    }

    #[test]
    fn the_controller_is_the_owner_that_says_so() {
        let pod = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"},
            {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "2", "controller": true}]}});
        assert_eq!(controller_of(&pod).map(|owner| owner.kind), Some("B"));
        assert_eq!(controller_of(&json!({"metadata": 3})), None);
    }
}
