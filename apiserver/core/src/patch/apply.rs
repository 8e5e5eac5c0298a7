//! Server-side apply and the ownership of fields (KEP-555, structured-merge-diff `merge.Updater`).

use serde_json::{Map, Value, json};
use xebec_api::facts::facts;
use xebec_api::status::Cause;
use xebec_api::{GroupVersionKind, Status, meta};

use super::fieldset::{FieldSet, Walk, children, item_element, walk_field};
use crate::context::RequestContext;

/// Metadata that nobody owns.
const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "generateName",
];

/// Who writes, and where.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource, empty for the object itself.
    pub subresource: &'a str,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Value,
    fields: FieldSet,
}

fn walk_of(gvk: &GroupVersionKind) -> Walk {
    let ty = facts().kind_id(gvk).map(|id| facts().get(id));
    Walk::Struct(ty)
}

fn read_entries(object: &Value) -> Vec<Entry> {
    let read = |entry: &Value| Entry {
        manager: meta::str_at(entry, &["manager"]).to_owned(),
        operation: meta::str_at(entry, &["operation"]).to_owned(),
        api_version: meta::str_at(entry, &["apiVersion"]).to_owned(),
        subresource: meta::str_at(entry, &["subresource"]).to_owned(),
        time: entry["time"].clone(),
        fields: FieldSet::from_value(&entry["fieldsV1"]),
    };
    meta::list_at(object, &["metadata", "managedFields"]).iter().map(read).collect()
}

fn write_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    // Appliers first, then by time, as upstream sorts them.
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (e.operation.clone(), e.time.as_str().unwrap_or("").to_owned(), e.manager.clone());
        key(a).cmp(&key(b))
    });
    let written: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let mut value = json!({
                "manager": entry.manager,
                "operation": entry.operation,
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_value(),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = entry.subresource.into();
            }
            value
        })
        .collect();
    let metadata = meta::metadata_mut(object);
    if written.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), written.into());
    }
}

fn owned_part(object: &Value) -> Value {
    let mut object = object.clone();
    meta::remove(&mut object, &["apiVersion"]);
    meta::remove(&mut object, &["kind"]);
    for field in UNOWNED_METADATA {
        meta::remove(&mut object, &["metadata", field]);
    }
    if object.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
        meta::remove(&mut object, &["metadata"]);
    }
    object
}

/// Records who owns what after a create, PUT or PATCH. `old` is `None` for creates. The managed fields of `new` as sent
/// are ignored.
pub fn track_update(
    gvk: &GroupVersionKind,
    new: &mut Value,
    old: Option<&Value>,
    writer: Writer<'_>,
    ctx: &RequestContext,
) {
    let walk = walk_of(gvk);
    let empty = json!({});
    let before = old.unwrap_or(&empty);
    let (changed, removed) = FieldSet::of_changes(&owned_part(new), &owned_part(before), walk);
    let mut entries = read_entries(before);
    if changed.is_empty() && removed.is_empty() {
        return write_entries(new, entries);
    }
    let api_version = gvk.api_version();
    let mine = |entry: &Entry| {
        entry.manager == writer.manager
            && entry.operation == "Update"
            && entry.subresource == writer.subresource
            && entry.api_version == api_version
    };
    for entry in &mut entries {
        entry.fields = entry.fields.recursive_difference(&removed);
        if !mine(entry) {
            entry.fields = entry.fields.difference(&changed);
        }
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|entry| mine(entry)) {
            Some(entry) => {
                entry.fields = entry.fields.union(&changed);
                entry.time = ctx.now_text().into();
            }
            None => entries.push(Entry {
                manager: writer.manager.to_owned(),
                operation: "Update".into(),
                api_version,
                subresource: writer.subresource.to_owned(),
                time: ctx.now_text().into(),
                fields: changed,
            }),
        }
    }
    write_entries(new, entries);
}

/// Applies a configuration: the result is the object to be stored (still to be defaulted and validated), with its
/// managed fields. `live` is `None` where the object is to be created.
///
/// # Errors
/// 400 where the configuration carries managed fields, 409 with upstream's text and causes where others own fields that
/// would change and `force` is off.
pub fn apply(
    gvk: &GroupVersionKind,
    live: Option<&Value>,
    config: &Value,
    writer: Writer<'_>,
    force: bool,
    ctx: &RequestContext,
) -> Result<Value, Status> {
    if !meta::list_at(config, &["metadata", "managedFields"]).is_empty() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let walk = walk_of(gvk);
    let mut entries = live.map(read_entries).unwrap_or_default();
    let mine = |entry: &Entry| {
        entry.manager == writer.manager && entry.operation == "Apply" && entry.subresource == writer.subresource
    };
    let stated = FieldSet::of_value(&owned_part(config), walk);
    let previous = entries.iter().find(|entry| mine(entry)).map(|entry| entry.fields.clone()).unwrap_or_default();
    let base = live.cloned().unwrap_or_else(|| json!({}));
    let mut merged = merge(&base, config, walk);
    let (changed, _) = FieldSet::of_changes(&owned_part(&merged), &owned_part(&base), walk);
    let touched = changed.intersection(&stated);
    let conflicts: Vec<(usize, FieldSet)> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !mine(entry))
        .map(|(i, entry)| (i, entry.fields.intersection(&touched)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !conflicts.is_empty() && !force {
        let named: Vec<(&Entry, FieldSet)> = conflicts.into_iter().map(|(i, fields)| (&entries[i], fields)).collect();
        return Err(conflict(&named));
    }
    for (i, fields) in conflicts {
        entries[i].fields = entries[i].fields.difference(&fields);
    }
    // What the applier no longer states goes, unless someone else wants it.
    let others =
        entries.iter().filter(|entry| !mine(entry)).fold(FieldSet::default(), |all, entry| all.union(&entry.fields));
    let dropped = previous.difference(&stated).difference(&others);
    prune(&mut merged, &dropped, &stated.union(&others), walk);
    let position = entries.iter().position(mine);
    let unchanged = stated == previous && owned_part(&merged) == owned_part(&base);
    let time = match position.filter(|_| unchanged) {
        Some(i) => entries[i].time.clone(),
        None => ctx.now_text().into(),
    };
    if let Some(i) = position {
        entries.remove(i);
    }
    entries.push(Entry {
        manager: writer.manager.to_owned(),
        operation: "Apply".into(),
        api_version: gvk.api_version(),
        subresource: writer.subresource.to_owned(),
        time,
        fields: stated,
    });
    write_entries(&mut merged, entries);
    Ok(merged)
}

/// Upstream's text (apimachinery `managedfields/internal/conflict.go`).
fn conflict(conflicts: &[(&Entry, FieldSet)]) -> Status {
    let mut causes = Vec::new();
    let mut groups = Vec::new();
    for (entry, fields) in conflicts {
        let mut who = format!("{:?}", entry.manager);
        if !entry.subresource.is_empty() {
            who = format!("{who} with subresource {:?}", entry.subresource);
        }
        if entry.operation == "Update" {
            who = format!("{who} using {}", entry.api_version);
        }
        let paths = fields.paths();
        for path in &paths {
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {who}"),
                field: path.clone(),
            });
        }
        groups.push(match paths.as_slice() {
            [one] => format!("conflict with {who}: {one}"),
            many => format!("conflicts with {who}:\n- {}", many.join("\n- ")),
        });
    }
    let count = causes.len();
    let plural = if count == 1 { "" } else { "s" };
    let message = format!("Apply failed with {count} conflict{plural}: {}", groups.join("\n"));
    Status::apply_conflict(causes, message)
}

/// The configuration laid over the live value: maps by key, keyed lists by item, everything else replaced.
fn merge(live: &Value, config: &Value, walk: Walk) -> Value {
    match (walk, live, config) {
        (Walk::Struct(_) | Walk::FreeMap(_), Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (key, value) in config {
                let below = match walk {
                    Walk::Struct(schema) => walk_field(schema, key, value),
                    Walk::FreeMap(schema) if value.is_object() && schema.is_some() => Walk::Struct(schema),
                    _ => Walk::Leaf,
                };
                let before = live.get(key).unwrap_or(&Value::Null);
                merged.insert(key.clone(), merge(before, value, below));
            }
            Value::Object(merged)
        }
        (Walk::Set | Walk::Keyed(..), Value::Array(live), Value::Array(config)) => {
            let below = if let Walk::Keyed(_, schema) = walk { Walk::Struct(schema) } else { Walk::Leaf };
            // Items only the server knows keep their place; stated items follow the configuration's order.
            let stated: Vec<String> = config.iter().map(|item| item_element(walk, item)).collect();
            let mut rest = config.iter().zip(&stated).peekable();
            let mut merged = Vec::with_capacity(live.len() + config.len());
            let find =
                |element: &str| live.iter().find(|item| item_element(walk, item) == element).unwrap_or(&Value::Null);
            for item in live {
                let element = item_element(walk, item);
                if !stated.contains(&element) {
                    merged.push(item.clone());
                } else if let Some((value, element)) = rest.next() {
                    merged.push(merge(find(element), value, below));
                }
            }
            merged.extend(rest.map(|(value, element)| merge(find(element), value, below)));
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

/// Removes the paths of `dropped` under which nobody keeps anything.
fn prune(value: &mut Value, dropped: &FieldSet, kept: &FieldSet, walk: Walk) {
    if dropped.is_empty() {
        return;
    }
    let plan: Vec<(String, Walk, bool)> = children(value, walk)
        .into_iter()
        .filter_map(|(element, _, below)| {
            let (member, _) = dropped.below(&element)?;
            Some((element.clone(), below, member && kept.below(&element).is_none()))
        })
        .collect();
    let none = FieldSet::default();
    for (element, below, remove) in plan {
        let inner = dropped.below(&element).map_or(&none, |(_, set)| set);
        let kept_inner = kept.below(&element).map_or(&none, |(_, set)| set);
        match value {
            Value::Object(map) => {
                let key = element.strip_prefix("f:").unwrap_or(&element);
                if remove {
                    map.remove(key);
                } else if let Some(child) = map.get_mut(key) {
                    prune(child, inner, kept_inner, below);
                    // A map whose entries were all the applier's goes with them.
                    if child.as_object().is_some_and(Map::is_empty) && kept.below(&element).is_none() {
                        map.remove(key);
                    }
                }
            }
            Value::Array(items) => {
                if remove {
                    items.retain(|item| item_element(walk, item) != element);
                } else if let Some(item) = items.iter_mut().find(|item| item_element(walk, item) == element) {
                    prune(item, inner, kept_inner, below);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{User, test_context};

    fn gvk() -> GroupVersionKind {
        GroupVersionKind::new("apps", "v1", "Deployment")
    }

    fn deployment(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn run(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        apply(&gvk(), live, config, Writer { manager, subresource: "" }, force, &test_context(User::default()))
    }

    #[test]
    fn appliers_own_what_they_state() {
        let object = run(None, &deployment(1, "x"), "one", false).expect("created");
        let entry = &object["metadata"]["managedFields"][0];
        assert_eq!((&entry["manager"], &entry["operation"]), (&json!("one"), &json!("Apply")));
        assert_eq!(entry["fieldsV1"]["f:metadata"], json!({"f:labels": {"f:a": {}}}));
        assert_eq!(
            entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"],
            json!({".": {}, "f:image": {}, "f:name": {}})
        );
        let again = run(Some(&object), &deployment(1, "x"), "one", false).expect("unchanged");
        assert_eq!(again, object);
    }

    #[test]
    fn keys_left_out_have_their_defaults() {
        let ports = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
        let service = GroupVersionKind::new("", "v1", "Service");
        let writer = Writer { manager: "one", subresource: "" };
        let ctx = test_context(User::default());
        let live = ports(json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
        let merged = apply(&service, Some(&live), &ports(json!([{"port": 80}])), writer, false, &ctx).expect("applied");
        assert_eq!(merged["spec"]["ports"], live["spec"]["ports"]);
        let again =
            apply(&service, Some(&merged), &ports(json!([{"port": 80}])), writer, false, &ctx).expect("applied");
        assert_eq!(again, merged);
    }

    #[test]
    fn conflicts_are_named_and_force_takes() {
        let live = run(None, &deployment(1, "x"), "one", false).expect("created");
        let status = run(Some(&live), &deployment(2, "x"), "two", false).expect_err("owned");
        assert_eq!(
            (status.code, status.message.as_str()),
            (409, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas")
        );
        assert!(run(Some(&live), &deployment(1, "x"), "two", false).is_ok(), "agreement is no conflict");
        let taken = run(Some(&live), &deployment(2, "x"), "two", true).expect("forced");
        assert_eq!(taken["spec"]["replicas"], json!(2));
        let first = &taken["metadata"]["managedFields"][0];
        assert_eq!(first["manager"], json!("one"));
        assert!(first["fieldsV1"]["f:spec"].get("f:replicas").is_none());
    }

    #[test]
    fn what_is_no_longer_stated_goes() {
        let live = run(None, &deployment(1, "x"), "one", false).expect("created");
        let mut config = deployment(1, "x");
        meta::remove(&mut config, &["metadata", "labels"]);
        meta::remove(&mut config, &["spec", "replicas"]);
        let object = run(Some(&live), &config, "one", false).expect("applied");
        assert!(meta::labels(&object).is_none());
        assert!(object["spec"].get("replicas").is_none());
    }

    #[test]
    fn updates_take_over_what_they_change() {
        let ctx = test_context(User::default());
        let live = run(None, &deployment(1, "x"), "one", false).expect("created");
        let mut new = live.clone();
        new["spec"]["replicas"] = json!(5);
        track_update(&gvk(), &mut new, Some(&live), Writer { manager: "hpa", subresource: "scale" }, &ctx);
        let entries = new["metadata"]["managedFields"].as_array().expect("entries");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        let status = run(Some(&new), &deployment(1, "x"), "one", false).expect_err("owned by the update");
        assert_eq!(
            status.message,
            "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
        );
        let mut created = deployment(1, "x");
        track_update(&gvk(), &mut created, None, Writer { manager: "kubectl-create", subresource: "" }, &ctx);
        let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(fields["f:metadata"], json!({"f:labels": {".": {}, "f:a": {}}}));
    }
}
