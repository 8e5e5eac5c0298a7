//! The facts and the resource table, judged by upstream's OpenAPI document.
#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use xebec_api::facts::{Field, ListType, facts};
use xebec_api::resource::resources;

fn swagger() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracles/kubernetes-openapi/swagger.json");
    serde_json::from_slice(&std::fs::read(path).expect("the oracles stand beside the checkout")).unwrap()
}

fn list_type(field: &Field) -> (Option<&'static str>, Vec<&'static str>) {
    match &field.list_type {
        None => (None, vec![]),
        Some(ListType::Atomic) => (Some("atomic"), vec![]),
        Some(ListType::Set) => (Some("set"), vec![]),
        Some(ListType::Map(keys)) => (Some("map"), keys.to_vec()),
    }
}

#[test]
fn fields_required_lists_and_merge_keys_are_upstreams() {
    let swagger = swagger();
    let (mut differences, mut compared) = (Vec::new(), 0);
    for ty in facts().types().iter().filter(|ty| ty.special.is_none()) {
        let name = facts().openapi_name(ty.name);
        let Some(schema) = swagger["definitions"].get(&name) else { continue };
        let fields: BTreeMap<&str, &Field> = ty.json_fields().into_iter().map(|field| (field.name, field)).collect();
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let ours: BTreeSet<&str> = fields.keys().copied().collect();
        let theirs: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        if ours != theirs {
            differences.push(format!("{name}: fields {:?}", ours.symmetric_difference(&theirs).collect::<Vec<_>>()));
        }
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (field_name, field) in &fields {
            let Some(property) = properties.get(*field_name) else { continue };
            compared += 1;
            let text = |key: &str| property[key].as_str();
            let keys: Vec<&str> = property["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let strategies = field.patch_strategies.join(",");
            let ours =
                (field.required, list_type(field), field.merge_key, Some(&*strategies).filter(|text| !text.is_empty()));
            let theirs = (
                required.contains(field_name),
                (text("x-kubernetes-list-type"), keys),
                text("x-kubernetes-patch-merge-key"),
                text("x-kubernetes-patch-strategy"),
            );
            if ours != theirs {
                differences.push(format!("{name}.{field_name}: ours {ours:?}, upstream {theirs:?}"));
            }
        }
    }
    assert!(compared > 2000, "only {compared} fields compared");
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn every_kind_upstream_knows_has_facts() {
    let swagger = swagger();
    let mut missing = Vec::new();
    for (name, schema) in swagger["definitions"].as_object().unwrap() {
        // `/version` answers with no API object.
        if name.ends_with(".version.Info") || name.ends_with(".v1.Patch") {
            continue;
        }
        if !facts().types().iter().any(|ty| facts().openapi_name(ty.name) == *name) {
            missing.push(name.clone());
        }
        for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let part = |key: &str| kind[key].as_str().unwrap();
            let gvk = xebec_api::GroupVersionKind::new(part("group"), part("version"), part("kind"));
            if facts().kind(&gvk).is_none() {
                missing.push(gvk.to_string());
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale` as (apiVersion, plural, namespaced, subresource).
fn parts(path: &str) -> Option<(String, String, bool, Option<String>)> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (version, mut rest) = match *words.first()? {
        "api" => ((*words.get(1)?).to_owned(), words.get(2..)?),
        "apis" => (words.get(1..3)?.join("/"), words.get(3..)?),
        _ => return None,
    };
    if rest.first() == Some(&"watch") {
        return None;
    }
    let namespaced = rest.len() > 2 && rest[..2] == ["namespaces", "{namespace}"];
    if namespaced {
        rest = &rest[2..];
    }
    Some((version, (*rest.first()?).to_owned(), namespaced, rest.get(2).map(|sub| (*sub).to_owned())))
}

#[test]
fn the_table_has_upstreams_names_scopes_and_subresources() {
    let swagger = swagger();
    type Row = (bool, BTreeSet<String>, BTreeSet<String>);
    let mut theirs: BTreeMap<(String, String), Row> = BTreeMap::new();
    for (path, item) in swagger["paths"].as_object().unwrap() {
        let Some((version, plural, namespaced, subresource)) = parts(path) else { continue };
        if plural.is_empty() || !resources().iter().any(|resource| resource.group_version().to_string() == version) {
            continue;
        }
        let row = theirs.entry((version, plural)).or_default();
        row.0 |= namespaced;
        match subresource {
            Some(name) => drop(row.1.insert(name)),
            None => row.2.extend(item.as_object().unwrap().values().filter_map(|operation| {
                Some(match operation["x-kubernetes-action"].as_str()? {
                    "post" => "create".to_owned(),
                    "put" => "update".to_owned(),
                    other => other.to_owned(),
                })
            })),
        }
    }
    let ours: BTreeMap<(String, String), Row> = resources()
        .iter()
        .map(|resource| {
            let subresources = resource.subresources.iter().map(|sub| sub.name.to_owned()).collect();
            // Watching has no path of its own.
            let verbs =
                resource.verbs.iter().map(|verb| verb.as_str().to_owned()).filter(|verb| verb != "watch").collect();
            (
                (resource.group_version().to_string(), resource.plural.to_owned()),
                (resource.namespaced, subresources, verbs),
            )
        })
        .collect();
    assert_eq!(ours, theirs);
}
