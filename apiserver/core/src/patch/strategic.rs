//! Strategic merge patch (apimachinery `util/strategicpatch`): a merge that knows which lists are maps.

use serde_json::{Map, Value};
use xebec_api::GroupVersionKind;
use xebec_api::facts::{Container, Field, Type, facts};

use super::PatchError;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// What the schema says of the fields of an object. Without a type nothing merges but maps.
type Schema = Option<&'static Type>;
type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of a built-in kind.
///
/// # Errors
/// When the patch is not an object, uses a directive wrongly or lacks a merge key.
pub fn strategic_merge_patch(gvk: &GroupVersionKind, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Some(object), Some(patch)) = (object.as_object(), patch.as_object()) else {
        return Err(PatchError::Malformed("error decoding patch: a strategic merge patch must be an object".into()));
    };
    merge_map(object.clone(), patch, facts().kind(gvk)).map(Value::Object)
}

fn malformed<T>(message: String) -> Result<T, PatchError> {
    Err(PatchError::Malformed(message))
}

fn field_of(schema: Schema, name: &str) -> Option<&'static Field> {
    schema?.field(name)
}

fn merges(field: Option<&Field>) -> bool {
    field.is_some_and(|f| f.patch_strategies.contains(&"merge"))
}

/// The schema of what an object-valued field holds: its struct, or nothing for free maps.
fn schema_below(field: Option<&'static Field>) -> Schema {
    field.filter(|f| f.container != Container::Map).and_then(Field::element_type)
}

fn merge_map(mut original: Object, patch: &Object, schema: Schema) -> Result<Object, PatchError> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or("")) {
        Some("replace") => return merge_map(Object::new(), &without(patch, DIRECTIVE), schema),
        Some("delete") => return Ok(Object::new()),
        Some("merge") | None => {}
        Some(other) => return malformed(format!("Unknown patch type found: {other}")),
    }
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut original, patch, retain)?;
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_PREFIX) {
            delete_scalars(&mut original, list, value)?;
        }
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX) {
            continue;
        }
        let order = patch.get(&format!("{ORDER_PREFIX}{key}"));
        merge_field(&mut original, key, value, order, field_of(schema, key))?;
    }
    // An order without a list of changes still orders.
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix(ORDER_PREFIX)
            && !patch.contains_key(list)
            && original.contains_key(list)
        {
            merge_field(&mut original, list, &Value::Array(Vec::new()), Some(order), field_of(schema, list))?;
        }
    }
    Ok(original)
}

fn without(patch: &Object, key: &str) -> Object {
    let mut rest = patch.clone();
    rest.remove(key);
    rest
}

fn retain_keys(original: &mut Object, patch: &Object, retain: &Value) -> Result<(), PatchError> {
    let Some(keys) = retain.as_array() else {
        return malformed("invalid patch format of retainKeys list: not a list".into());
    };
    let kept: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let stray =
        patch.iter().find(|(key, value)| !key.starts_with('$') && !value.is_null() && !kept.contains(&key.as_str()));
    if let Some((key, _)) = stray {
        return malformed(format!("invalid patch format of retainKeys list: {key} is changed but not retained"));
    }
    original.retain(|key, _| kept.contains(&key.as_str()));
    Ok(())
}

fn delete_scalars(original: &mut Object, key: &str, doomed: &Value) -> Result<(), PatchError> {
    let Some(doomed) = doomed.as_array() else {
        return malformed(format!("invalid patch format of the delete list of {key}: not a list"));
    };
    if let Some(list) = original.get_mut(key).and_then(Value::as_array_mut) {
        list.retain(|item| !doomed.contains(item));
    }
    Ok(())
}

fn merge_field(
    original: &mut Object,
    key: &str,
    value: &Value,
    order: Option<&Value>,
    field: Option<&'static Field>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    let merged = match value {
        Value::Object(patch) => {
            let replace = field.is_some_and(|f| f.patch_strategies.contains(&"replace"));
            let before = match original.remove(key) {
                Some(Value::Object(before)) if !replace => before,
                _ => Object::new(),
            };
            Value::Object(merge_map(before, patch, schema_below(field))?)
        }
        Value::Array(patch) if merges(field) => {
            let before = match original.remove(key) {
                Some(Value::Array(before)) => before,
                _ => Vec::new(),
            };
            let order = order.and_then(Value::as_array).map(Vec::as_slice);
            Value::Array(merge_list(before, patch, order, field)?)
        }
        other => strip(other),
    };
    original.insert(key.to_owned(), merged);
    Ok(())
}

/// A value taken over as it is may hold no nulls in maps: they mean deletion.
fn strip(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), strip(v))).collect(),
        other => other.clone(),
    }
}

fn merge_list(
    original: Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    field: Option<&'static Field>,
) -> Result<Vec<Value>, PatchError> {
    let maps = original.iter().chain(patch).chain(order.unwrap_or(&[])).any(Value::is_object);
    let Some(key) = field.and_then(|f| f.merge_key).filter(|_| maps) else {
        let mut merged = original.clone();
        for item in patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(ordered(merged, order.unwrap_or(patch), &original, |v| Some(v.clone())));
    };
    let key_of = |item: &Value| item.get(key).cloned();
    let mut merged = original.clone();
    let mut plain: Vec<&Value> = Vec::new();
    let mut replace = false;
    for item in patch {
        let Some(map) = item.as_object() else {
            return malformed(format!("cannot merge a list of maps with {item}"));
        };
        match map.get(DIRECTIVE).map(|d| d.as_str().unwrap_or("")) {
            None => plain.push(item),
            Some("delete") => {
                let Some(value) = key_of(item) else {
                    return malformed(format!("delete patch type with no merge key defined: {item}"));
                };
                merged.retain(|existing| key_of(existing).as_ref() != Some(&value));
            }
            Some("replace") => {
                replace = true;
                if map.len() > 1 {
                    plain.push(item);
                }
            }
            Some("merge") => return malformed("merging lists cannot yet be specified in the patch".into()),
            Some(other) => return malformed(format!("Unknown patch type found: {other}")),
        }
    }
    if replace {
        merged.clear();
    }
    let schema = field.and_then(Field::element_type);
    for item in &plain {
        let Some(value) = key_of(item) else {
            return malformed(format!("map: {item} does not contain declared merge key: {key}"));
        };
        let patch = item.as_object().map(|map| without(map, DIRECTIVE)).unwrap_or_default();
        match merged.iter_mut().find(|existing| key_of(existing).as_ref() == Some(&value)) {
            Some(existing) => {
                let before = existing.as_object().cloned().unwrap_or_default();
                *existing = Value::Object(merge_map(before, &patch, schema)?);
            }
            None => merged.push(Value::Object(merge_map(Object::new(), &patch, schema)?)),
        }
    }
    let plain: Vec<Value> = plain.into_iter().cloned().collect();
    Ok(ordered(merged, order.unwrap_or(&plain), &original, key_of))
}

/// Items named in the wanted order follow it; the others keep their place among them as far as the original tells,
/// and come last where it does not (`strategicpatch.mergeSortedSlice`).
fn ordered(
    merged: Vec<Value>,
    wanted: &[Value],
    original: &[Value],
    key_of: impl Fn(&Value) -> Option<Value>,
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| {
        list.iter().position(|other| key_of(other).is_some() && key_of(other) == key_of(item))
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(wanted, item).is_some());
    named.sort_by_key(|item| place(wanted, item));
    others.sort_by_key(|item| place(original, item).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (named.peek(), others.peek()) {
            (None, None) => return out,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(n), Some(o)) => match (place(original, o), place(original, n)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(object: Value, patch: Value) -> Result<Value, PatchError> {
        strategic_merge_patch(&GroupVersionKind::new("", "v1", "Pod"), &object, &patch)
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
    }

    #[test]
    fn containers_merge_by_name() {
        let object = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        assert_eq!(
            pod(object.clone(), containers(json!([{"name": "b", "image": "2"}]))),
            Ok(containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])))
        );
        assert_eq!(
            pod(object.clone(), containers(json!([{"name": "c", "image": "3"}]))),
            Ok(containers(
                json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}])
            ))
        );
        assert_eq!(
            pod(object.clone(), containers(json!([{"name": "a", "$patch": "delete"}]))),
            Ok(containers(json!([{"name": "b", "image": "1"}])))
        );
        assert_eq!(
            pod(object.clone(), containers(json!([{"name": "z", "image": "9"}, {"$patch": "replace"}]))),
            Ok(containers(json!([{"name": "z", "image": "9"}])))
        );
        assert!(pod(object, containers(json!([{"image": "2"}]))).is_err());
    }

    #[test]
    fn element_order_is_kept_as_asked() {
        let object = containers(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]));
        let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}});
        assert_eq!(pod(object, patch), Ok(containers(json!([{"name": "c"}, {"name": "a"}, {"name": "b"}]))));
    }

    #[test]
    fn scalars_merge_and_are_deleted_by_value() {
        let object = json!({"metadata": {"finalizers": ["a/1", "b/2"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1"], "finalizers": ["c/3"]}});
        assert_eq!(pod(object, patch), Ok(json!({"metadata": {"finalizers": ["c/3", "b/2"]}})));
    }

    #[test]
    fn other_lists_are_replaced_and_nulls_delete() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "a", "args": ["x", "y"]}]}});
        let patch = json!({"metadata": {"labels": {"a": null, "c": null}}, "spec": {"containers": [{"name": "a", "args": ["z"]}]}});
        let expected =
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "a", "args": ["z"]}]}});
        assert_eq!(pod(object, patch), Ok(expected));
    }

    #[test]
    fn retain_keys_clears_what_is_not_named() {
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        let object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(
            strategic_merge_patch(&gvk, &object, &patch),
            Ok(json!({"spec": {"strategy": {"type": "Recreate"}}}))
        );
    }

    #[test]
    fn unknown_directives_are_refused() {
        assert!(pod(json!({}), json!({"spec": {"$patch": "explode"}})).is_err());
        assert_eq!(
            pod(json!({"spec": {"a": 1}}), json!({"spec": {"$patch": "replace", "b": 2}})),
            Ok(json!({"spec": {"b": 2}}))
        );
    }
}
