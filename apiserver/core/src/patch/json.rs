//! JSON patch and JSON merge patch.

use serde_json::{Map, Value};

use super::{JSON_PATCH_OPERATIONS_MAX, PatchError};

/// Applies a JSON patch (RFC 6902): all operations or none.
///
/// # Errors
/// When the patch is no list of operations, has too many, or does not fit the object.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > JSON_PATCH_OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(count));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| PatchError::Malformed(e.to_string()))?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch.0).map_err(|e| PatchError::DoesNotApply(e.to_string()))?;
    Ok(patched)
}

/// Applies a JSON merge patch (RFC 7396).
///
/// # Errors
/// When the patch is not an object.
pub fn merge_patch(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("error decoding patch: a merge patch must be an object".into()));
    }
    let mut patched = object.clone();
    merge(&mut patched, patch);
    Ok(patched)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patches_follow_the_rfc() {
        // The examples of RFC 7396, appendix A, that concern objects.
        for (object, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merge_patch(&object, &patch), Ok(expected));
        }
        assert!(merge_patch(&json!({}), &json!([])).is_err());
    }

    #[test]
    fn json_patches_apply_wholly_or_not_at_all() {
        let object = json!({"a": 1});
        assert_eq!(json_patch(&object, &json!([{"op": "add", "path": "/b", "value": 2}])), Ok(json!({"a": 1, "b": 2})));
        let failing = json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/a", "value": 1}]);
        assert!(matches!(json_patch(&object, &failing), Err(PatchError::DoesNotApply(_))));
        assert!(matches!(json_patch(&object, &json!({"op": "add"})), Err(PatchError::Malformed(_))));
        let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); JSON_PATCH_OPERATIONS_MAX + 1]);
        assert_eq!(json_patch(&object, &many), Err(PatchError::TooManyOperations(JSON_PATCH_OPERATIONS_MAX + 1)));
    }
}
