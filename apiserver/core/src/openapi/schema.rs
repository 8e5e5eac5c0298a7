//! Schemas of types.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use xebec_api::facts::{Container, Element, Facts, Field, ListType, Scalar, Special, Type, facts};
use xebec_api::resource::group_versions;

use super::Dialect;
use super::descriptions::Descriptions;

/// Makes schemas of one dialect.
pub(super) struct Schemas<'a> {
    pub(super) dialect: Dialect,
    pub(super) descriptions: &'a Descriptions,
    facts: &'static Facts,
}

/// The body of PATCH requests, which is no Go struct.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// A type, its discriminator, and each member with the value that chooses it.
type Union = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Union discriminators, which OpenAPI states and the facts do not.
const UNIONS: [Union; 5] = [
    ("core.v1.AppArmorProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("core.v1.SeccompProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("flowcontrol.v1.LimitResponse", "type", &[("queuing", "Queuing")]),
    ("flowcontrol.v1.PriorityLevelConfigurationSpec", "type", &[("exempt", "Exempt"), ("limited", "Limited")]),
    ("flowcontrol.v1.Subject", "kind", &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")]),
];

impl<'a> Schemas<'a> {
    pub(super) fn new(dialect: Dialect, descriptions: &'a Descriptions) -> Self {
        Self { dialect, descriptions, facts: facts() }
    }

    /// All schemas these lead to, by OpenAPI name.
    pub(super) fn closure(&self, roots: impl IntoIterator<Item = String>) -> Map<String, Value> {
        let mut wanted: Vec<&'static Type> = Vec::new();
        let names: BTreeSet<String> = roots.into_iter().collect();
        for ty in self.facts.types() {
            if names.contains(&self.facts.openapi_name(ty.name)) {
                wanted.push(ty);
            }
        }
        let mut out = Map::new();
        while let Some(ty) = wanted.pop() {
            let name = self.facts.openapi_name(ty.name);
            if out.contains_key(&name) {
                continue;
            }
            out.insert(name, self.schema(ty));
            if ty.special.is_none() {
                wanted.extend(
                    ty.json_fields()
                        .into_iter()
                        .filter_map(Field::element_type)
                        .filter(|ty| ty.special != Some(Special::Items)),
                );
            }
        }
        if names.contains(PATCH) {
            let description = self.descriptions.of_type(PATCH);
            out.insert(PATCH.to_owned(), described(json!({"type": "object"}), description));
        }
        out
    }

    /// The schema of one type.
    pub(super) fn schema(&self, ty: &Type) -> Value {
        let name = self.facts.openapi_name(ty.name);
        let description = self.descriptions.of_type(&name);
        if let Some(special) = ty.special {
            return described(self.special(ty, special), description);
        }
        let mut properties = Map::new();
        let mut required: Vec<&str> = Vec::new();
        for field in ty.json_fields() {
            let property = self.property(field);
            properties.insert(
                field.name.to_owned(),
                self.described_property(property, self.descriptions.of_field(&name, field.name)),
            );
            if field.required {
                required.push(field.name);
            }
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if ty.atomic {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some(kinds) = self.kinds(ty) {
            schema["x-kubernetes-group-version-kind"] = kinds;
        }
        if let Some((_, discriminator, members)) = UNIONS.iter().find(|(name, ..)| *name == ty.name) {
            let members: Map<String, Value> =
                members.iter().map(|(field, value)| ((*field).to_owned(), Value::from(*value))).collect();
            schema["x-kubernetes-unions"] =
                json!([{"discriminator": discriminator, "fields-to-discriminateBy": members}]);
        }
        described(schema, description)
    }

    fn special(&self, ty: &Type, special: Special) -> Value {
        match (special, self.dialect) {
            (Special::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (Special::IntOrString, Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            (Special::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            (Special::Time | Special::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
            (Special::Quantity | Special::Duration, _) => json!({"type": "string"}),
            (Special::Items, _) => json!({"type": "array", "items": {"type": "string"}}),
            // Any JSON, not only objects.
            (Special::Raw, _) if ty.name == "apiextensions.v1.JSON" => json!({}),
            (Special::Raw, _) => json!({"type": "object"}),
            (Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStrings, _) => json!({}),
        }
    }

    /// The kinds this type is. Options and watch events are kinds of every group version.
    fn kinds(&self, ty: &Type) -> Option<Value> {
        let entry = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
        let kinds: Vec<Value> = match ty.name {
            "meta.v1.DeleteOptions" | "meta.v1.WatchEvent" => {
                let kind = ty.name.rsplit('.').next().unwrap_or_default();
                group_versions().iter().map(|served| entry(&served.group, &served.version, kind)).collect()
            }
            _ => ty
                .kinds
                .iter()
                .map(|(api_version, kind)| {
                    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                    entry(group, version, kind)
                })
                .collect(),
        };
        (!kinds.is_empty()).then_some(Value::Array(kinds))
    }

    fn property(&self, field: &Field) -> Value {
        let mut schema = match field.container {
            Container::One | Container::Pointer => self.element(field.element),
            Container::List => json!({"type": "array", "items": self.element(field.element)}),
            Container::Map => json!({"type": "object", "additionalProperties": self.element(field.element)}),
        };
        let mut put = |key: &str, value: Value| {
            schema[key] = value;
        };
        match &field.list_type {
            Some(ListType::Atomic) => put("x-kubernetes-list-type", json!("atomic")),
            Some(ListType::Set) => put("x-kubernetes-list-type", json!("set")),
            Some(ListType::Map(keys)) => {
                put("x-kubernetes-list-type", json!("map"));
                put("x-kubernetes-list-map-keys", json!(keys));
            }
            None => {}
        }
        if field.atomic {
            put("x-kubernetes-map-type", json!("atomic"));
        }
        if let Some(map_type) = field.map_type {
            put("x-kubernetes-map-type", json!(map_type));
        }
        if !field.patch_strategies.is_empty() {
            put("x-kubernetes-patch-strategy", json!(field.patch_strategies.join(",")));
        }
        if let Some(key) = field.merge_key {
            put("x-kubernetes-patch-merge-key", json!(key));
        }
        if self.dialect == Dialect::V3 {
            if let Some(default) = field.default.and_then(|text| serde_json::from_str(text).ok()) {
                put("default", default);
            }
            if let (Some(values), Container::One | Container::Pointer) =
                (field.named.and_then(|named| self.facts.enum_values(named)), field.container)
            {
                put("enum", json!(values));
            }
        }
        schema
    }

    fn element(&self, element: Element) -> Value {
        match element {
            Element::Type(id) => {
                let ty = self.facts.get(id);
                match ty.special {
                    // A named slice in Go has no schema of its own.
                    Some(Special::Items) => self.special(ty, Special::Items),
                    _ => json!({"$ref": self.dialect.reference(&self.facts.openapi_name(ty.name))}),
                }
            }
            Element::Scalar(scalar) => match scalar {
                Scalar::String => json!({"type": "string"}),
                Scalar::Bool => json!({"type": "boolean"}),
                Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
                Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
                Scalar::Uint32 | Scalar::Uint64 => json!({"type": "integer", "format": "int64"}),
                Scalar::Double => json!({"type": "number", "format": "double"}),
                Scalar::Bytes => json!({"type": "string", "format": "byte"}),
                Scalar::Any => json!({"type": "object"}),
            },
        }
    }

    /// In v3 nothing may stand beside a `$ref`: it goes into an `allOf`.
    fn described_property(&self, mut schema: Value, description: &str) -> Value {
        if self.dialect == Dialect::V3
            && let Some(map) = schema.as_object_mut()
            && let Some(reference) = map.remove("$ref")
        {
            map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        described(schema, description)
    }
}

fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = Value::from(description);
    }
    schema
}
