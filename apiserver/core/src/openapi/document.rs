//! Whole documents.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use xebec_api::GroupVersion;
use xebec_api::facts::{Container, Field, facts};
use xebec_api::resource::{Resource, Verb, group_versions, resources};

use super::descriptions::Descriptions;
use super::operation::{Answer, Operation};
use super::parameters::{option_parameter, path_parameter};
use super::paths::{self, PathItem, base, capitalized, group_tag};
use super::schema::Schemas;
use super::{Dialect, Entry, SubEntry};

const API_RESOURCES: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
const API_GROUP: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup";

/// The paths of the v3 documents of built-in groups: `api/v1`, `apis/apps/v1`.
pub fn v3_paths() -> Vec<String> {
    group_versions().iter().map(|served| base(&served.group, &served.version)[1..].to_owned()).collect()
}

/// The index at `/openapi/v3`: each document with its hash, by which clients and proxies know it unchanged. The hash is any
/// text that changes with the document.
pub fn v3_index<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let paths: Map<String, Value> = documents
        .into_iter()
        .map(|(path, hash)| (path.to_owned(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})))
        .collect();
    json!({ "paths": paths })
}

/// The v3 document at `/openapi/v3/<path>`; `None` if no built-in group version is there.
pub fn v3_document(path: &str) -> Option<Value> {
    let served = group_versions().into_iter().find(|served| base(&served.group, &served.version)[1..] == *path)?;
    let entries: Vec<Entry> =
        built_in().filter(|entry| entry.group == served.group && entry.version == served.version).collect();
    Some(v3(&served, &entries, Map::new()))
}

/// The v3 document of a group version of custom resources. `schemas` are theirs, by the names the entries use, in OpenAPI v3
/// as a CustomResourceDefinition states them.
pub fn custom_v3_document(served: &GroupVersion, entries: &[Entry], schemas: Map<String, Value>) -> Value {
    v3(served, entries, schemas)
}

/// The one document of v2.
pub fn v2_document() -> Value {
    let descriptions = Descriptions::load();
    let mut builder = Builder::new(Dialect::V2, &descriptions);
    for served in group_versions() {
        builder.discovery(&served);
    }
    for entry in built_in() {
        builder.entry(&entry);
    }
    let definitions = builder.schemas.closure(builder.roots);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.35.0"},
        "paths": builder.paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token"}},
        "security": [{"BearerToken": []}],
    })
}

fn v3(served: &GroupVersion, entries: &[Entry], schemas: Map<String, Value>) -> Value {
    let descriptions = Descriptions::load();
    let mut builder = Builder::new(Dialect::V3, &descriptions);
    builder.discovery(served);
    for entry in entries {
        builder.entry(entry);
    }
    let mut components = builder.schemas.closure(builder.roots);
    components.extend(schemas);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.35.0"},
        "paths": builder.paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer token"}},
        },
    })
}

/// The built-in resources.
fn built_in() -> impl Iterator<Item = Entry> {
    resources().iter().map(Entry::of)
}

fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let gvk = xebec_api::GroupVersionKind::new(group, version, kind);
    facts().kind(&gvk).map_or_else(String::new, |ty| facts().openapi_name(ty.name))
}

impl Entry {
    /// A row of the resource table.
    pub fn of(resource: &Resource) -> Self {
        let names = |verbs: &[Verb]| verbs.iter().map(|verb| verb.as_str()).collect();
        Self {
            group: resource.group.to_owned(),
            version: resource.version.to_owned(),
            kind: resource.kind.to_owned(),
            plural: resource.plural.to_owned(),
            namespaced: resource.namespaced,
            verbs: names(&resource.verbs),
            subresources: resource
                .subresources
                .iter()
                .map(|sub| SubEntry {
                    name: sub.name.to_owned(),
                    group: sub.group.to_owned(),
                    version: sub.version.to_owned(),
                    kind: sub.kind.to_owned(),
                    verbs: names(&sub.verbs),
                    schema: schema_name(sub.group, sub.version, sub.kind),
                })
                .collect(),
            schema: schema_name(resource.group, resource.version, resource.kind),
            list_schema: schema_name(resource.group, resource.version, &resource.list_kind),
        }
    }
}

struct Builder<'a> {
    dialect: Dialect,
    schemas: Schemas<'a>,
    paths: Map<String, Value>,
    roots: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(dialect: Dialect, descriptions: &'a Descriptions) -> Self {
        Self { dialect, schemas: Schemas::new(dialect, descriptions), paths: Map::new(), roots: BTreeSet::new() }
    }

    fn entry(&mut self, entry: &Entry) {
        for item in paths::of(entry) {
            self.path(item);
        }
    }

    /// `/apis/apps/` and `/apis/apps/v1/`.
    fn discovery(&mut self, served: &GroupVersion) {
        let tag = group_tag(&served.group);
        let prefix = capitalized(&tag);
        let operation = |id: String, description: &str, tag: String, schema: &str| Operation {
            method: "get",
            id,
            description: description.to_owned(),
            tag,
            action: "",
            gvk: None,
            query: Vec::new(),
            body: None,
            answer: Answer::Object(schema.to_owned()),
            codes: &[200],
        };
        let resources = operation(
            format!("get{prefix}{}APIResources", capitalized(&served.version)),
            "get available resources",
            format!("{tag}_{}", served.version),
            API_RESOURCES,
        );
        let path = base(&served.group, &served.version) + "/";
        self.path(PathItem { path, operations: vec![resources], options: None });
        if self.dialect == Dialect::V2 && !served.group.is_empty() {
            let group = operation(format!("get{prefix}APIGroup"), "get information of a group", tag, API_GROUP);
            self.path(PathItem { path: format!("/apis/{}/", served.group), operations: vec![group], options: None });
        }
    }

    fn path(&mut self, item: PathItem) {
        let mut value = Map::new();
        for operation in &item.operations {
            self.roots.extend(operation.answer.schema_name().map(str::to_owned));
            self.roots.extend(operation.body.as_ref().map(|body| body.schema_name().to_owned()));
            value.insert(operation.method.to_owned(), operation.render(self.dialect));
        }
        let placeholders = item.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = placeholders.map(|name| path_parameter(name, self.dialect)).collect();
        if let Some(options) = &item.options {
            parameters.extend(self.options(options));
        }
        if !parameters.is_empty() {
            value.insert("parameters".to_owned(), Value::Array(parameters));
        }
        self.paths.insert(item.path, Value::Object(value));
    }

    /// The fields of an options kind as query parameters.
    fn options(&self, kind: &str) -> Vec<Value> {
        let Some(ty) = facts().by_name(&format!("core.v1.{kind}")) else { return Vec::new() };
        let of = |field: &&Field| field.number != 0;
        let render = |field: &Field| {
            let schema = self.schemas.schema(ty);
            let kind = match field.container {
                // Lists are given by repeating the parameter.
                Container::List => "string",
                _ => schema["properties"][field.name]["type"].as_str().unwrap_or("string"),
            };
            let description = schema["properties"][field.name]["description"].as_str().unwrap_or("");
            option_parameter(field.name, kind, description, self.dialect)
        };
        ty.fields.iter().filter(of).map(render).collect()
    }
}
