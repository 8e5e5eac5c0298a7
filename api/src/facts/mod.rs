//! What the API types are: fields, protobuf numbers, list types, merge keys, defaults.
//!
//! The data is `facts/v1_35.facts`, written by `facts/generate`, which explains its format. It is parsed once, on first
//! use, into slices of the embedded text, so that a name costs nothing but a pointer.

mod parse;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::gvk::GroupVersionKind;

/// A type's place in [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u32);

/// A scalar, by its Go type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `string` and named strings.
    String,
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `int64` and `int`.
    Int64,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `float64`.
    Double,
    /// `[]byte`, base64 in JSON.
    Bytes,
    /// `interface{}`: any JSON, never in protobuf.
    Any,
}

/// What a field, an item or a map's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// A scalar.
    Scalar(Scalar),
    /// A type of its own.
    Type(TypeId),
}

/// How many of an element a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// One, always there in Go.
    One,
    /// One or none: a Go pointer.
    Pointer,
    /// A list.
    List,
    /// A map with string keys.
    Map,
}

/// When a field's zero value appears in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Left out when empty (Go's `omitempty`: false, 0, "", nil, no items; never a struct).
    OmitEmpty,
    /// Left out when zero (`omitzero`).
    OmitZero,
    /// Always there.
    Keep,
}

/// How server-side apply treats a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Items are distinct scalars.
    Set,
    /// Items are objects told apart by these fields.
    Map(Box<[&'static str]>),
}

/// Types whose JSON or protobuf form is their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`, nullable.
    Time,
    /// `metav1.MicroTime`, nullable.
    MicroTime,
    /// `metav1.Duration`.
    Duration,
    /// Raw JSON: `RawExtension`, `FieldsV1`, apiextensions `JSON`.
    Raw,
    /// A message in protobuf that is a list of strings in JSON (`ExtraValue`, `Verbs`).
    Items,
    /// apiextensions `JSONSchemaPropsOrBool`.
    SchemaOrBool,
    /// apiextensions `JSONSchemaPropsOrArray`.
    SchemaOrArray,
    /// apiextensions `JSONSchemaPropsOrStringArray`.
    SchemaOrStrings,
}

/// One field of a type.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON; for an inlined struct, its name in protobuf.
    pub name: &'static str,
    /// Its number in protobuf; 0 when it is in JSON only.
    pub number: u32,
    /// One, none, several.
    pub container: Container,
    /// Of what.
    pub element: Element,
    /// When it may be left out.
    pub presence: Presence,
    /// Whether its fields appear in JSON among its parent's.
    pub inline: bool,
    /// Whether OpenAPI says it is required.
    pub required: bool,
    /// How apply treats it, when it is a list that says so.
    pub list_type: Option<ListType>,
    /// Whether it is replaced as a whole though it is a map or struct.
    pub atomic: bool,
    /// `x-kubernetes-map-type`, where the field states it.
    pub map_type: Option<&'static str>,
    /// Strategic merge patch strategies: `merge`, `replace`, `retainKeys`.
    pub patch_strategies: Box<[&'static str]>,
    /// What tells the items apart in a strategic merge.
    pub merge_key: Option<&'static str>,
    /// The named Go string it is, `core.v1.PodPhase`.
    pub named: Option<&'static str>,
    /// Its default in OpenAPI, as JSON text.
    pub default: Option<&'static str>,
}

/// A struct, or one of the [`Special`] types.
#[derive(Clone, Debug)]
pub struct Type {
    /// Name in the facts: `core.v1.Container`.
    pub name: &'static str,
    /// Set for types with a form of their own.
    pub special: Option<Special>,
    /// Whether apply replaces it as a whole.
    pub atomic: bool,
    /// Fields in Go's order.
    pub fields: Box<[Field]>,
    /// `apiVersion` and kind for those that are kinds.
    pub kinds: Box<[(&'static str, &'static str)]>,
    /// Indexes into `fields`, by protobuf number, without those that have none.
    pub(crate) by_number: Box<[u16]>,
}

/// A package of types.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// `io.k8s.api.core.v1`.
    pub openapi: &'static str,
    /// `v1`.
    pub go: &'static str,
}

/// All facts.
#[derive(Debug)]
pub struct Facts {
    types: Box<[Type]>,
    names: HashMap<&'static str, TypeId>,
    kinds: HashMap<(&'static str, &'static str), TypeId>,
    packages: HashMap<&'static str, Package>,
    enums: HashMap<&'static str, Box<[&'static str]>>,
}

static FACTS: LazyLock<Facts> = LazyLock::new(|| {
    parse::parse(include_str!("../../facts/v1_35.facts")).expect("the embedded facts are well-formed, as a test shows")
});

/// The facts of Kubernetes v1.35.
pub fn facts() -> &'static Facts {
    &FACTS
}

impl Facts {
    /// The type of a kind. The generic kinds (`DeleteOptions`, `WatchEvent`, `Status`, ...) exist in every group.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&Type> {
        self.kind_id(gvk).map(|id| self.get(id))
    }

    /// The place of a kind's type.
    pub fn kind_id(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        let api_version = gvk.api_version();
        self.kinds
            .get(&(api_version.as_str(), gvk.kind.as_str()))
            .or_else(|| generic(&gvk.kind).and_then(|name| self.names.get(name)))
            .copied()
    }

    /// The type at a place.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// The type of this name (`core.v1.Container`).
    pub fn by_name(&self, name: &str) -> Option<&Type> {
        self.names.get(name).map(|id| self.get(*id))
    }

    /// All types, by name.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// The package a type's name begins with.
    pub fn package(&self, type_name: &str) -> Option<Package> {
        self.packages.get(type_name.rsplit_once('.')?.0).copied()
    }

    /// The name of a type in OpenAPI: `io.k8s.api.core.v1.Container`.
    pub fn openapi_name(&self, type_name: &str) -> String {
        self.qualified(type_name, |package| package.openapi)
    }

    /// The name of a type in Go's error messages: `v1.Container`.
    pub fn go_name(&self, type_name: &str) -> String {
        self.qualified(type_name, |package| package.go)
    }

    fn qualified(&self, type_name: &str, part: impl Fn(&Package) -> &'static str) -> String {
        match (self.package(type_name), type_name.rsplit_once('.')) {
            (Some(package), Some((_, name))) => format!("{}.{name}", part(&package)),
            _ => type_name.to_owned(),
        }
    }

    /// The values of an enumeration, by the name in [`Field::named`].
    pub fn enum_values(&self, named: &str) -> Option<&[&'static str]> {
        self.enums.get(named).map(AsRef::as_ref)
    }
}

/// Kinds registered by apimachinery under every group version (`metav1.AddToGroupVersion`) or unversioned.
fn generic(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "WatchEvent" => "meta.v1.WatchEvent",
        "DeleteOptions" => "meta.v1.DeleteOptions",
        "CreateOptions" => "meta.v1.CreateOptions",
        "UpdateOptions" => "meta.v1.UpdateOptions",
        "PatchOptions" => "meta.v1.PatchOptions",
        "ListOptions" => "meta.v1.ListOptions",
        "GetOptions" => "meta.v1.GetOptions",
        "PartialObjectMetadata" => "meta.v1.PartialObjectMetadata",
        "PartialObjectMetadataList" => "meta.v1.PartialObjectMetadataList",
        "Table" => "meta.v1.Table",
        _ => return None,
    })
}

impl Type {
    /// The field of this JSON name, of this type or of a struct inlined into it.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find_map(|field| match (field.inline, field.element) {
            (false, _) => (field.name == name).then_some(field),
            (true, Element::Type(id)) => facts().get(id).field(name),
            (true, Element::Scalar(_)) => None,
        })
    }

    /// Whether objects of this type say what they are: a `WatchEvent` and nested types do not.
    pub fn has_type_meta(&self) -> bool {
        self.fields.iter().any(|field| field.number == 0 && field.name == "apiVersion")
    }

    /// All fields as JSON shows them: those of inlined structs in their place.
    pub fn json_fields(&self) -> Vec<&Field> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            match (field.inline, field.element) {
                (true, Element::Type(id)) => fields.extend(facts().get(id).json_fields()),
                _ => fields.push(field),
            }
        }
        fields
    }
}

impl Field {
    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.container == Container::List
    }

    /// The type of its element, if that is not a scalar.
    pub fn element_type(&self) -> Option<&'static Type> {
        match self.element {
            Element::Type(id) => Some(facts().get(id)),
            Element::Scalar(_) => None,
        }
    }

    /// Whether strategic merge patch merges this field item by item.
    pub fn merges(&self) -> bool {
        self.patch_strategies.contains(&"merge")
    }
}
