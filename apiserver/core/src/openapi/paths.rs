//! The paths of a resource, with their operations. Names of operations are those upstream's installer gives
//! (apiserver `pkg/endpoints/installer.go`): generated clients are named after them.

use super::operation::{Answer, Body, Operation};
use super::parameters::{DELETE, DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE, LIST, LOG, PRETTY, Parameter};
use super::schema::PATCH;
use super::{Entry, SubEntry};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
/// What may be proxied with.
const PROXY_METHODS: [(&str, &str); 7] = [
    ("delete", "Delete"),
    ("get", "Get"),
    ("head", "Head"),
    ("options", "Options"),
    ("patch", "Patch"),
    ("post", "Post"),
    ("put", "Put"),
];

/// A path with its operations; the placeholders are in the path.
pub(super) struct PathItem {
    pub(super) path: String,
    pub(super) operations: Vec<Operation>,
    /// The options kind whose fields are query parameters here.
    pub(super) options: Option<String>,
}

/// `/api/v1`, `/apis/apps/v1`.
pub(super) fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// `core`, `rbacAuthorization`.
pub(super) fn group_tag(group: &str) -> String {
    let name = group.strip_suffix(".k8s.io").unwrap_or(group);
    if name.is_empty() {
        return "core".to_owned();
    }
    let mut parts = name.split(['.', '-']);
    let mut tag = parts.next().unwrap_or_default().to_owned();
    tag.extend(parts.map(capitalized));
    tag
}

/// First letter in upper case.
pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The paths of one resource.
struct Builder<'a> {
    entry: &'a Entry,
    tag: String,
    /// `CoreV1`.
    prefix: String,
    /// `NamespacedPod`.
    object: String,
}

/// All paths of a resource and its subresources.
pub(super) fn of(entry: &Entry) -> Vec<PathItem> {
    let tag = group_tag(&entry.group);
    let builder = Builder {
        entry,
        prefix: capitalized(&tag) + &capitalized(&entry.version),
        tag: format!("{tag}_{}", entry.version),
        object: if entry.namespaced { format!("Namespaced{}", entry.kind) } else { entry.kind.clone() },
    };
    let base = base(&entry.group, &entry.version);
    let scope = if entry.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{scope}/{}", entry.plural);
    let mut items = vec![
        item(format!("{base}{collection}"), builder.collection()),
        item(format!("{base}{collection}/{{name}}"), builder.single()),
    ];
    let lists = entry.verbs.contains(&"list");
    if entry.namespaced && lists {
        items.push(item(format!("{base}/{}", entry.plural), vec![builder.list(true)]));
    }
    if entry.verbs.contains(&"watch") {
        items.push(item(format!("{base}/watch{collection}"), vec![builder.watch_list(false)]));
        items.push(item(format!("{base}/watch{collection}/{{name}}"), vec![builder.watch_one()]));
        if entry.namespaced {
            items.push(item(format!("{base}/watch/{}", entry.plural), vec![builder.watch_list(true)]));
        }
    }
    for sub in &entry.subresources {
        let path = format!("{base}{collection}/{{name}}/{}", sub.name);
        let options = sub.kind.ends_with("Options").then(|| sub.kind.clone());
        if sub.name == "proxy" {
            items.push(PathItem {
                path: format!("{path}/{{path}}"),
                operations: builder.connect(sub, true),
                options: options.clone(),
            });
        }
        let operations = if options.is_some() { builder.connect(sub, false) } else { builder.subresource(sub) };
        items.push(PathItem { path, operations, options });
    }
    items.retain(|item| !item.operations.is_empty());
    items
}

fn item(path: String, operations: Vec<Operation>) -> PathItem {
    PathItem { path, operations, options: None }
}

fn with<const N: usize>(parameters: [Parameter; N]) -> Vec<Parameter> {
    parameters.into_iter().chain([PRETTY]).collect()
}

impl Builder<'_> {
    fn has(&self, verb: &str) -> bool {
        self.entry.verbs.contains(&verb)
    }

    fn operation(
        &self,
        method: &'static str,
        action: &'static str,
        name: String,
        description: String,
        answer: Answer,
    ) -> Operation {
        let Entry { group, version, kind, .. } = self.entry;
        Operation {
            method,
            id: name,
            description,
            tag: self.tag.clone(),
            action,
            gvk: Some((group.clone(), version.clone(), kind.clone())),
            query: with([]),
            body: None,
            answer,
            codes: &[200],
        }
    }

    fn patch_body(&self) -> Body {
        Body::Patch { schema: PATCH.to_owned(), strategic: self.entry.schema.starts_with("io.k8s.") }
    }

    fn collection(&self) -> Vec<Operation> {
        let (prefix, object, kind) = (&self.prefix, &self.object, &self.entry.kind);
        let mut operations = Vec::new();
        if self.has("list") {
            operations.push(self.list(false));
        }
        if self.has("create") {
            let schema = self.entry.schema.clone();
            operations.push(Operation {
                query: with([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]),
                body: Some(Body::Object(schema.clone())),
                codes: &[200, 201, 202],
                ..self.operation(
                    "post",
                    "post",
                    format!("create{prefix}{object}"),
                    format!("create a {kind}"),
                    Answer::Object(schema),
                )
            });
        }
        if self.has("deletecollection") {
            let name = format!("delete{prefix}Collection{object}");
            let without_watch = LIST.into_iter().filter(|parameter| !parameter.name.to_lowercase().contains("watch"));
            operations.push(Operation {
                query: without_watch.chain(DELETE).chain([PRETTY]).collect(),
                body: Some(Body::Optional(DELETE_OPTIONS.to_owned())),
                ..self.operation(
                    "delete",
                    "deletecollection",
                    name,
                    format!("delete collection of {kind}"),
                    Answer::Object(STATUS.to_owned()),
                )
            });
        }
        operations
    }

    fn list(&self, all_namespaces: bool) -> Operation {
        let (prefix, kind) = (&self.prefix, &self.entry.kind);
        let name = if all_namespaces {
            format!("list{prefix}{kind}ForAllNamespaces")
        } else {
            format!("list{prefix}{}", self.object)
        };
        let description = format!("list or watch objects of kind {kind}");
        Operation {
            query: with(LIST),
            ..self.operation("get", "list", name, description, Answer::List(self.entry.list_schema.clone()))
        }
    }

    fn watch_list(&self, all_namespaces: bool) -> Operation {
        let (prefix, kind) = (&self.prefix, &self.entry.kind);
        let name = if all_namespaces {
            format!("watch{prefix}{kind}ListForAllNamespaces")
        } else {
            format!("watch{prefix}{}List", self.object)
        };
        let description = format!("deprecated: list {kind} with the 'watch' parameter instead");
        Operation {
            query: with(LIST),
            ..self.operation("get", "watchlist", name, description, Answer::List(WATCH_EVENT.to_owned()))
        }
    }

    fn watch_one(&self) -> Operation {
        let name = format!("watch{}{}", self.prefix, self.object);
        let description =
            format!("deprecated: list {} with the 'watch' and 'fieldSelector' parameters instead", self.entry.kind);
        Operation {
            query: with(LIST),
            ..self.operation("get", "watch", name, description, Answer::List(WATCH_EVENT.to_owned()))
        }
    }

    fn single(&self) -> Vec<Operation> {
        let (prefix, object, kind) = (&self.prefix, &self.object, &self.entry.kind);
        let schema = &self.entry.schema;
        let answer = || Answer::Object(schema.clone());
        let mut operations = Vec::new();
        if self.has("get") {
            operations.push(self.operation(
                "get",
                "get",
                format!("read{prefix}{object}"),
                format!("read the specified {kind}"),
                answer(),
            ));
        }
        if self.has("update") {
            let (name, description) = (format!("replace{prefix}{object}"), format!("replace the specified {kind}"));
            operations.push(self.replacing(self.operation("put", "put", name, description, answer()), schema));
        }
        if self.has("patch") {
            let (name, description) =
                (format!("patch{prefix}{object}"), format!("partially update the specified {kind}"));
            operations.push(self.patching(self.operation("patch", "patch", name, description, answer())));
        }
        if self.has("delete") {
            operations.push(Operation {
                query: with(DELETE),
                body: Some(Body::Optional(DELETE_OPTIONS.to_owned())),
                codes: &[200, 202],
                ..self.operation(
                    "delete",
                    "delete",
                    format!("delete{prefix}{object}"),
                    format!("delete a {kind}"),
                    Answer::Object(STATUS.to_owned()),
                )
            });
        }
        operations
    }

    fn replacing(&self, operation: Operation, schema: &str) -> Operation {
        let query = with([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]);
        Operation { query, body: Some(Body::Object(schema.to_owned())), codes: &[200, 201], ..operation }
    }

    fn patching(&self, operation: Operation) -> Operation {
        let query = with([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE]);
        Operation { query, body: Some(self.patch_body()), codes: &[200, 201], ..operation }
    }

    fn subresource(&self, sub: &SubEntry) -> Vec<Operation> {
        let (prefix, object, kind) = (&self.prefix, &self.object, &self.entry.kind);
        let suffix = capitalized(&sub.name);
        let gvk = Some((sub.group.clone(), sub.version.clone(), sub.kind.clone()));
        let named = |method, action, verb: &str, description: String| Operation {
            gvk: gvk.clone(),
            ..self.operation(
                method,
                action,
                format!("{verb}{prefix}{object}{suffix}"),
                description,
                Answer::Object(sub.schema.clone()),
            )
        };
        let name = &sub.name;
        let mut operations = Vec::new();
        if sub.verbs.contains(&"get") {
            let read = named("get", "get", "read", format!("read {name} of the specified {kind}"));
            let query = if name == "log" { with(LOG) } else { with([]) };
            let answer = if name == "log" { Answer::Text } else { read.answer.clone() };
            operations.push(Operation { query, answer, ..read });
        }
        if sub.verbs.contains(&"update") {
            operations.push(self.replacing(
                named("put", "put", "replace", format!("replace {name} of the specified {kind}")),
                &sub.schema,
            ));
        }
        if sub.verbs.contains(&"patch") {
            operations.push(self.patching(named(
                "patch",
                "patch",
                "patch",
                format!("partially update {name} of the specified {kind}"),
            )));
        }
        if sub.verbs.contains(&"create") {
            operations.push(Operation {
                query: with([DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION]),
                body: Some(Body::Object(sub.schema.clone())),
                codes: &[200, 201, 202],
                ..named("post", "post", "create", format!("create {name} of a {kind}"))
            });
        }
        operations
    }

    fn connect(&self, sub: &SubEntry, with_path: bool) -> Vec<Operation> {
        let suffix = capitalized(&sub.name) + if with_path { "WithPath" } else { "" };
        let methods =
            PROXY_METHODS.into_iter().filter(|(method, _)| sub.name == "proxy" || matches!(*method, "get" | "post"));
        methods
            .map(|(method, word)| Operation {
                gvk: Some((sub.group.clone(), sub.version.clone(), sub.kind.clone())),
                query: Vec::new(),
                ..self.operation(
                    method,
                    "connect",
                    format!("connect{}{word}{}{suffix}", self.prefix, self.object),
                    format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, self.entry.kind),
                    Answer::Text,
                )
            })
            .collect()
    }
}
