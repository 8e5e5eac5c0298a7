//! Validation of `metadata` (apimachinery `pkg/api/validation/objectmeta.go`).

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{meta, name_rules};

/// Most bytes of all annotations, keys and values together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// Validates an object's metadata; `name_rule` is the kind's.
pub fn validate_metadata(object: &Value, namespaced: bool, name_rule: fn(&str) -> Vec<String>) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    let invalid = |field: &str, value: &str, problems: Vec<String>| {
        let path = path.child(field);
        problems.into_iter().map(|problem| Error::invalid(&path, value, problem)).collect::<Vec<_>>()
    };
    let (name, prefix) = (meta::name(object), meta::generate_name(object));
    if !prefix.is_empty() {
        // A trailing dash or dot is fine: more follows.
        let masked = prefix.strip_suffix(['-', '.']).map_or(prefix.to_owned(), |start| format!("{start}a"));
        errors.extend(invalid("generateName", prefix, name_rule(&masked)));
    }
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        errors.extend(invalid("name", name, name_rule(name)));
    }
    let namespace = meta::namespace(object);
    if namespaced && namespace.is_empty() {
        errors.push(Error::required(&path.child("namespace"), ""));
    } else if namespaced {
        errors.extend(invalid("namespace", namespace, name_rules::dns_label(namespace)));
    } else if !namespace.is_empty() {
        errors.push(Error::forbidden(&path.child("namespace"), "not allowed on this type"));
    }
    if let Some(labels) = meta::labels(object) {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    errors.extend(validate_annotations(object, &path.child("annotations")));
    errors.extend(validate_owners(object, &path.child("ownerReferences")));
    for finalizer in meta::finalizers(object) {
        let place = path.child("finalizers");
        errors.extend(name_rules::qualified_name(finalizer).into_iter().map(|p| Error::invalid(&place, finalizer, p)));
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            errors.push(Error::invalid(
                &place,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

/// Validates labels at `path`.
pub(crate) fn validate_labels(labels: &serde_json::Map<String, Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(name_rules::qualified_name(key).into_iter().map(|p| Error::invalid(path, key.as_str(), p)));
        let value = value.as_str().unwrap_or("");
        errors.extend(name_rules::label_value(value).into_iter().map(|p| Error::invalid(path, value, p)));
    }
    errors
}

fn validate_annotations(object: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in meta::annotations(object).into_iter().flatten() {
        // Upper case is tolerated in annotation keys' domains.
        let problems = name_rules::qualified_name(&key.to_lowercase());
        errors.extend(problems.into_iter().map(|p| Error::invalid(path, key.as_str(), p)));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn validate_owners(object: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    for owner in meta::owner_references(object) {
        let (group, version) = owner.api_version.rsplit_once('/').unwrap_or(("", owner.api_version));
        for (field, value, name) in [
            ("apiVersion", version, "version"),
            ("kind", owner.kind, "kind"),
            ("name", owner.name, "name"),
            ("uid", owner.uid, "uid"),
        ] {
            if value.is_empty() {
                errors.push(Error::invalid(&path.child(field), value, format!("{name} must not be empty")));
            }
        }
        if group.is_empty() && version == "v1" && owner.kind == "Event" {
            errors.push(Error::invalid(path, "/v1, Kind=Event", "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.controller {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    owner.kind.to_owned() + "/" + owner.name
                );
                errors.push(Error::invalid(path, Value::Null, detail));
            } else {
                controller = Some(owner.name);
            }
        }
    }
    errors
}

/// What may not change in metadata.
pub fn validate_metadata_update(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let text = |object: &Value, field: &str| meta::get(object, &["metadata", field]).cloned().unwrap_or(Value::Null);
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (was, is) = (text(old, field), text(new, field));
        if was != is {
            errors.push(Error::invalid(&path.child(field), is, "field is immutable"));
        }
    }
    if meta::deletion_timestamp(old).is_some() {
        let before = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(object: Value, expected: &[&str]) {
        let errors = validate_metadata(&object, true, name_rules::dns_subdomain);
        let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, expected, "{object}");
    }

    #[test]
    fn metadata_is_refused_where_upstream_refuses_it() {
        check(
            json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "web"}, "finalizers": ["x.com/y", "orphan"]}}),
            &[],
        );
        check(json!({"metadata": {"namespace": "n"}}), &["metadata.name"]);
        check(json!({"metadata": {"name": "A_b"}}), &["metadata.name", "metadata.namespace"]);
        check(
            json!({"metadata": {"name": "a", "namespace": "n", "labels": {"": "x", "a": "sp ace"}}}).clone(),
            &["metadata.labels", "metadata.labels", "metadata.labels"],
        );
        check(json!({"metadata": {"name": "a", "namespace": "n", "finalizers": ["bare"]}}), &["metadata.finalizers"]);
        check(
            json!({"metadata": {"name": "a", "namespace": "n", "generateName": "a-", "ownerReferences": [{"kind": "K", "name": "n", "uid": "u"}]}}),
            &["metadata.ownerReferences.apiVersion"],
        );
    }

    #[test]
    fn a_dying_object_gains_no_finalizers() {
        let old = json!({"metadata": {"uid": "u", "deletionTimestamp": "t", "finalizers": ["a/b"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
        assert_eq!(validate_metadata_update(&new, &old).len(), 1);
        new["metadata"]["finalizers"] = json!([]);
        assert!(validate_metadata_update(&new, &old).is_empty());
    }
}
