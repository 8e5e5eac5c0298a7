use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use xebec_api::resource::group_versions;

use super::*;

fn swagger() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/kubernetes-openapi/swagger.json");
    serde_json::from_slice(&std::fs::read(path).expect("the oracles stand beside the checkout")).unwrap()
}

/// Paths of groups served by default.
fn served(path: &str) -> bool {
    let known =
        group_versions().iter().any(|served| path.starts_with(&(paths::base(&served.group, &served.version) + "/")));
    known
        || path.matches('/').count() == 3
            && group_versions().iter().any(|served| path == format!("/apis/{}/", served.group))
}

#[test]
fn v2_has_upstreams_paths_and_operations() {
    let (ours, theirs) = (v2_document(), swagger());
    let mut differences = Vec::new();
    let describe = |document: &Value, path: &str| -> BTreeSet<String> {
        let operations =
            document["paths"][path].as_object().into_iter().flatten().filter(|(method, _)| *method != "parameters");
        operations
            .map(|(method, operation)| {
                let text = |key: &str| operation[key].to_string();
                format!(
                    "{method} {} {} {}",
                    text("operationId"),
                    text("x-kubernetes-action"),
                    text("x-kubernetes-group-version-kind")
                )
            })
            .collect()
    };
    let paths = |document: &Value| {
        document["paths"].as_object().unwrap().keys().filter(|path| served(path)).cloned().collect::<BTreeSet<_>>()
    };
    // The oracle has lost some deprecated watch paths; all others must agree.
    for path in paths(&ours).union(&paths(&theirs)).filter(|path| !path.contains("/watch/")) {
        let (a, b) = (describe(&ours, path), describe(&theirs, path));
        if a != b {
            differences.push(format!(
                "{path}\n  ours {:?}\n  upstream {:?}",
                a.difference(&b).collect::<Vec<_>>(),
                b.difference(&a).collect::<Vec<_>>()
            ));
        }
    }
    assert!(differences.is_empty(), "{} paths differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn v2_has_upstreams_schemas() {
    let (ours, theirs) = (v2_document(), swagger());
    let mut differences = Vec::new();
    for (name, schema) in ours["definitions"].as_object().unwrap() {
        let upstream = &theirs["definitions"][name];
        let mut ours = schema.clone();
        let mut theirs = upstream.clone();
        for schema in [&mut ours, &mut theirs] {
            // Ours names the groups that are served, upstream's all it knows.
            if (name.ends_with("DeleteOptions") || name.ends_with("WatchEvent"))
                && let Some(map) = schema.as_object_mut()
            {
                map.remove("x-kubernetes-group-version-kind");
            }
        }
        for schema in [&mut ours, &mut theirs] {
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.sort_by_key(Value::to_string);
            }
        }
        // Lists, events and raw objects are generic types in k8s-openapi, without a schema to take words from.
        if name.ends_with("List") || name.ends_with("WatchEvent") || name.ends_with("RawExtension") {
            strip_descriptions(&mut ours);
            strip_descriptions(&mut theirs);
        }
        if ours != theirs {
            let fields = |value: &Value| value["properties"].as_object().cloned().unwrap_or_default();
            let (a, b) = (fields(&ours), fields(&theirs));
            let keys: BTreeSet<_> =
                a.keys().chain(b.keys()).filter(|key| a.get(*key) != b.get(*key)).cloned().collect();
            let detail: Vec<String> = keys
                .iter()
                .take(2)
                .map(|key| format!("    {key}: {:?}\n    upstream {:?}", a.get(key), b.get(key)))
                .collect();
            differences.push(format!("{name}: {keys:?}\n{}", detail.join("\n")));
        }
    }
    assert!(differences.is_empty(), "{} schemas differ:\n{}", differences.len(), differences.join("\n"));
}

fn strip_descriptions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let documents = v3_paths().into_iter().map(|path| v3_document(&path).unwrap()).chain([v2_document()]);
    for document in documents {
        let mut wanted = BTreeSet::new();
        references(&document, &mut wanted);
        for reference in wanted {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}

#[test]
fn explain_and_field_validation_find_what_they_look_for() {
    let core = v3_document("api/v1").unwrap();
    let schemas = &core["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(spec["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert!(spec["description"].as_str().unwrap().contains("containers belonging to the pod"));
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert_eq!(pod["properties"]["spec"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodSpec");
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "fieldValidation"));
    assert_eq!(v3_document("apis/nobody/v1"), None);
}
