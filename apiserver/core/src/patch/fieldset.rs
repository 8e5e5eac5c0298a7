//! Sets of field paths, as `managedFields` records them (structured-merge-diff's `fieldpath.Set`, FieldsV1 form).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use xebec_api::facts::{Container, Element, Field, ListType, Presence, Type};

/// A set of paths into an object. A path element is `f:<field>`, `k:<keys as JSON>` or `v:<value as JSON>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<String, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

/// How ownership goes on below a value.
#[derive(Clone, Copy)]
pub(super) enum Walk {
    /// One owner for the whole value.
    Leaf,
    /// Fields of a struct, or of anything in custom objects.
    Struct(Option<&'static Type>),
    /// Keys of a free map.
    FreeMap(Option<&'static Type>),
    /// Distinct scalars.
    Set,
    /// Items told apart by keys.
    Keyed(&'static [&'static str], Option<&'static Type>),
}

/// The walk below a field of a struct; without schema objects are granular and lists are not.
pub(super) fn walk_field(schema: Option<&'static Type>, name: &str, value: &Value) -> Walk {
    let Some(schema) = schema else {
        return if value.is_object() { Walk::Struct(None) } else { Walk::Leaf };
    };
    let Some(field) = schema.field(name) else { return Walk::Leaf };
    if field.atomic || field.map_type == Some("atomic") {
        return Walk::Leaf;
    }
    match (field.container, &field.list_type) {
        (Container::List, Some(ListType::Map(keys))) => Walk::Keyed(keys, field.element_type()),
        (Container::List, Some(ListType::Set)) => Walk::Set,
        (Container::List, _) => Walk::Leaf,
        (Container::Map, _) => Walk::FreeMap(granular(field)),
        (Container::One | Container::Pointer, _) => granular(field).map_or(Walk::Leaf, |ty| Walk::Struct(Some(ty))),
    }
}

fn granular(field: &'static Field) -> Option<&'static Type> {
    let atomic = |ty: &Type| ty.atomic && field.map_type != Some("granular");
    field.element_type().filter(|ty| ty.special.is_none() && !atomic(ty))
}

/// The path element of a list's item.
pub(super) fn item_element(walk: Walk, item: &Value) -> String {
    match walk {
        Walk::Keyed(keys, schema) => {
            // A key left out has its default: `{containerPort: 80}` and `{containerPort: 80, protocol: TCP}` are one port.
            let default = |key: &str| serde_json::from_str(schema?.field(key)?.default?).ok();
            let value_of = |key: &str| item.get(key).filter(|v| !v.is_null()).cloned().or_else(|| default(key));
            let named: Map<String, Value> =
                keys.iter().filter_map(|key| value_of(key).map(|value| ((*key).to_owned(), value))).collect();
            format!("k:{}", Value::Object(named))
        }
        _ => format!("v:{item}"),
    }
}

/// The children of a value with their path elements and walks.
pub(super) fn children(value: &Value, walk: Walk) -> Vec<(String, &Value, Walk)> {
    match (walk, value) {
        (Walk::Struct(schema), Value::Object(map)) => {
            map.iter().map(|(key, v)| (format!("f:{key}"), v, walk_field(schema, key, v))).collect()
        }
        (Walk::FreeMap(schema), Value::Object(map)) => {
            let below = |v: &Value| if v.is_object() && schema.is_some() { Walk::Struct(schema) } else { Walk::Leaf };
            map.iter().map(|(key, v)| (format!("f:{key}"), v, below(v))).collect()
        }
        (Walk::Set, Value::Array(items)) => items.iter().map(|v| (item_element(walk, v), v, Walk::Leaf)).collect(),
        (Walk::Keyed(_, schema), Value::Array(items)) => {
            items.iter().map(|v| (item_element(walk, v), v, Walk::Struct(schema))).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether Go's empty object has the field already, so that filling it is no addition of the field itself.
fn always_there(schema: Option<&'static Type>, element: &str) -> bool {
    let field = element.strip_prefix("f:").and_then(|name| schema?.field(name));
    field.is_some_and(|f| {
        f.presence == Presence::Keep || (f.container == Container::One && matches!(f.element, Element::Type(_)))
    })
}

impl FieldSet {
    /// Every field an applied object states.
    pub(super) fn of_value(value: &Value, walk: Walk) -> Self {
        let mut set = Self::default();
        for (element, child, below) in children(value, walk) {
            let inner = Self::of_value(child, below);
            let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
            let item = matches!(walk, Walk::Keyed(..) | Walk::Set | Walk::FreeMap(_));
            let member = item || empty || matches!(below, Walk::Leaf);
            set.0.insert(element, Node { member, below: inner });
        }
        set
    }

    /// What a write has added or changed, and what it has removed.
    pub(super) fn of_changes(new: &Value, old: &Value, walk: Walk) -> (Self, Self) {
        let (mut changed, mut removed) = (Self::default(), Self::default());
        let before = children(old, walk);
        let after = children(new, walk);
        let schema = if let Walk::Struct(schema) = walk { schema } else { None };
        for (element, value, below) in &after {
            let old_value = before.iter().find(|(e, ..)| e == element).map(|(_, v, _)| *v);
            let node = match old_value {
                Some(old_value) if old_value == *value => continue,
                Some(_) if matches!(below, Walk::Leaf) => Node { member: true, below: Self::default() },
                Some(old_value) => {
                    let (inner, gone) = Self::of_changes(value, old_value, *below);
                    if !gone.is_empty() {
                        removed.0.insert(element.clone(), Node { member: false, below: gone });
                    }
                    Node { member: false, below: inner }
                }
                None => {
                    let (inner, _) = Self::of_changes(value, &Value::Null, *below);
                    let structural = always_there(schema, element) && !matches!(below, Walk::Leaf);
                    Node { member: !structural, below: inner }
                }
            };
            if node.member || !node.below.is_empty() {
                changed.0.insert(element.clone(), node);
            }
        }
        for (element, ..) in before.iter().filter(|(e, ..)| !after.iter().any(|(other, ..)| other == e)) {
            removed.0.insert(element.clone(), Node { member: true, below: Self::default() });
        }
        (changed, removed)
    }

    /// Reads FieldsV1.
    pub fn from_value(fields: &Value) -> Self {
        let entries = fields.as_object().into_iter().flatten().filter(|(key, _)| *key != ".");
        let nodes = entries.map(|(key, value)| {
            let leaf = value.as_object().is_none_or(Map::is_empty);
            (key.clone(), Node { member: leaf || value.get(".").is_some(), below: Self::from_value(value) })
        });
        Self(nodes.collect())
    }

    /// Writes FieldsV1.
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(key, node)| {
            let mut value = node.below.to_value();
            if node.member && !node.below.is_empty() {
                value["."] = json!({});
            }
            (key.clone(), value)
        });
        Value::Object(entries.collect())
    }

    /// Whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Both sets' paths.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (key, node) in &other.0 {
            let own = all.0.entry(key.clone()).or_default();
            own.member |= node.member;
            own.below = own.below.union(&node.below);
        }
        all
    }

    /// Paths of this set that are in the other, too.
    pub fn intersection(&self, other: &Self) -> Self {
        self.filtered(|key, node| {
            other.0.get(key).map_or_else(Node::default, |o| Node {
                member: node.member && o.member,
                below: node.below.intersection(&o.below),
            })
        })
    }

    /// Paths of this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        self.filtered(|key, node| {
            other.0.get(key).map_or_else(
                || node.clone(),
                |o| Node { member: node.member && !o.member, below: node.below.difference(&o.below) },
            )
        })
    }

    /// Paths of this set that are neither in the other nor below one of its members.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.filtered(|key, node| match other.0.get(key) {
            None => node.clone(),
            Some(o) if o.member => Node::default(),
            Some(o) => Node { member: node.member, below: node.below.recursive_difference(&o.below) },
        })
    }

    fn filtered(&self, keep: impl Fn(&str, &Node) -> Node) -> Self {
        let nodes = self.0.iter().map(|(key, node)| (key.clone(), keep(key, node)));
        Self(nodes.filter(|(_, node)| node.member || !node.below.is_empty()).collect())
    }

    /// The set below a path element, and whether the element itself is a member.
    pub(super) fn below(&self, element: &str) -> Option<(bool, &Self)> {
        self.0.get(element).map(|node| (node.member, &node.below))
    }

    /// The paths in upstream's notation: `.spec.containers[name="c"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.write_paths("", &mut out);
        out
    }

    fn write_paths(&self, prefix: &str, out: &mut Vec<String>) {
        for (key, node) in &self.0 {
            let path = format!("{prefix}{}", shown(key));
            node.below.write_paths(&path, out);
            if node.member {
                out.push(path);
            }
        }
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_their_written_form() {
        let fields =
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}, "f:replicas": {}}});
        let set = FieldSet::from_value(&fields);
        assert_eq!(set.to_value(), fields);
        assert_eq!(
            set.paths(),
            [".spec.containers[name=\"c\"].image", ".spec.containers[name=\"c\"]", ".spec.replicas"]
        );
        let image = FieldSet::from_value(&json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}}));
        assert_eq!(set.intersection(&image), image);
        assert_eq!(set.difference(&image).union(&image), set);
        assert!(set.difference(&set).is_empty());
    }

    #[test]
    fn a_field_may_be_granular_though_its_type_is_atomic() {
        let types = xebec_api::facts::facts().types();
        let walk = |ty: &str, field: &str| {
            walk_field(types.iter().find(|known| known.name == ty), field, &json!({"name": "a"}))
        };
        assert!(matches!(walk("core.v1.PersistentVolumeSpec", "claimRef"), Walk::Struct(Some(_))));
        assert!(matches!(walk("core.v1.Event", "involvedObject"), Walk::Leaf));
    }
}
