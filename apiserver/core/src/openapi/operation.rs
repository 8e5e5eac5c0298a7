//! One operation on one path, before it becomes JSON of a dialect.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::parameters::Parameter;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON_WATCH: &str = "application/json;stream=watch";
const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Bodies of PATCH.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An object of this schema.
    Object(String),
    /// A list of this schema, or events.
    List(String),
    /// Plain text, or whatever a connection carries.
    Text,
}

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// An object of this schema.
    Object(String),
    /// The same, but it may be missing (DELETE).
    Optional(String),
    /// A patch; strategic merge only for built-in kinds.
    Patch {
        /// Its schema.
        schema: String,
        /// Whether the kind is built in.
        strategic: bool,
    },
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    /// `x-kubernetes-action`, empty for discovery.
    pub(super) action: &'static str,
    /// `x-kubernetes-group-version-kind`: group, version, kind.
    pub(super) gvk: Option<(String, String, String)>,
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answer: Answer,
    /// Success codes.
    pub(super) codes: &'static [u16],
}

impl Operation {
    pub(super) fn render(&self, dialect: Dialect) -> Value {
        let mut operation = json!({"description": self.description, "operationId": self.id, "tags": [self.tag]});
        let mut parameters: Vec<Value> = self.query.iter().map(|parameter| parameter.render(dialect)).collect();
        if let Some(body) = &self.body {
            match dialect {
                Dialect::V2 => parameters.insert(0, body.v2_parameter()),
                Dialect::V3 => operation["requestBody"] = body.v3_content(),
            }
        }
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        if dialect == Dialect::V2 {
            operation["consumes"] = match &self.body {
                Some(Body::Patch { strategic, .. }) => json!(patches(*strategic)),
                _ => json!(["*/*"]),
            };
            operation["produces"] = json!(self.answer.media_types());
            operation["schemes"] = json!(["https"]);
        }
        operation["responses"] = self.responses(dialect);
        if !self.action.is_empty() {
            operation["x-kubernetes-action"] = self.action.into();
        }
        if let Some((group, version, kind)) = &self.gvk {
            operation["x-kubernetes-group-version-kind"] = json!({"group": group, "version": version, "kind": kind});
        }
        operation
    }

    fn responses(&self, dialect: Dialect) -> Value {
        let mut responses = Map::new();
        for code in self.codes {
            let description = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            let schema = self.answer.schema(dialect);
            let response = match dialect {
                Dialect::V2 => json!({"description": description, "schema": schema}),
                Dialect::V3 => {
                    let content: Map<String, Value> = self
                        .answer
                        .media_types()
                        .iter()
                        .map(|media| ((*media).to_owned(), json!({"schema": schema})))
                        .collect();
                    json!({"description": description, "content": content})
                }
            };
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }
}

fn patches(strategic: bool) -> Vec<&'static str> {
    PATCHES.into_iter().filter(|media| strategic || !media.contains("strategic")).collect()
}

impl Body {
    fn schema(&self) -> &str {
        match self {
            Self::Object(schema) | Self::Optional(schema) | Self::Patch { schema, .. } => schema,
        }
    }

    fn v2_parameter(&self) -> Value {
        let mut parameter =
            json!({"name": "body", "in": "body", "schema": {"$ref": Dialect::V2.reference(self.schema())}});
        if !matches!(self, Self::Optional(_)) {
            parameter["required"] = Value::Bool(true);
        }
        parameter
    }

    fn v3_content(&self) -> Value {
        let schema = json!({"schema": {"$ref": Dialect::V3.reference(self.schema())}});
        let content: Map<String, Value> = match self {
            Self::Patch { strategic, .. } => {
                patches(*strategic).into_iter().map(|media| (media.to_owned(), schema.clone())).collect()
            }
            _ => [("*/*".to_owned(), schema)].into_iter().collect(),
        };
        match self {
            Self::Optional(_) => json!({"content": content}),
            _ => json!({"content": content, "required": true}),
        }
    }
}

impl Answer {
    fn schema(&self, dialect: Dialect) -> Value {
        match self {
            Self::Object(schema) | Self::List(schema) => json!({"$ref": dialect.reference(schema)}),
            Self::Text => json!({"type": "string"}),
        }
    }

    fn media_types(&self) -> &'static [&'static str] {
        match self {
            Self::Object(_) => &[JSON, YAML, PROTOBUF],
            Self::List(_) => &[JSON, YAML, PROTOBUF, JSON_WATCH, PROTOBUF_WATCH],
            Self::Text => &["*/*"],
        }
    }

    /// The schema's name.
    pub(super) fn schema_name(&self) -> Option<&str> {
        match self {
            Self::Object(schema) | Self::List(schema) => Some(schema),
            Self::Text => None,
        }
    }
}

impl Body {
    /// The schema's name.
    pub(super) fn schema_name(&self) -> &str {
        self.schema()
    }
}
