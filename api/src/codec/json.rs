//! JSON to `Value`, checked against the schema.
//!
//! Mistakes are Go's (`sigs.k8s.io/json`): what has the wrong type is an error, what the schema does not know or what is
//! there twice is reported beside the result. The result is what Go would print of the object.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::protobuf_read::whole_or_float;
use super::scalar::{complete, zero};
use super::{Error, StrictError, base64, protobuf_write};
use crate::facts::{Container, Element, Facts, Field, Scalar, Special, Type, facts};
use crate::gvk::GroupVersionKind;
use crate::{meta, time};

/// Unknown and duplicate fields reported for one object (`sigs.k8s.io/json` stops counting there, too).
const STRICT_ERRORS_MAX: usize = 100;

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// What strict validation refuses, in the order of the document.
    pub strict: Vec<StrictError>,
}

/// `apiVersion` and kind of a JSON object, `""` where missing.
pub fn peek_type(bytes: &[u8]) -> Result<(String, String), Error> {
    #[derive(serde::Deserialize)]
    struct TypeMeta {
        #[serde(default, rename = "apiVersion")]
        api_version: Option<String>,
        #[serde(default)]
        kind: Option<String>,
    }
    let peeked: TypeMeta = serde_json::from_slice(bytes)
        .map_err(|error| Error::Syntax(format!("couldn't get version/kind; json parse error: {error}")))?;
    Ok((peeked.api_version.unwrap_or_default(), peeked.kind.unwrap_or_default()))
}

/// Decodes JSON as an object of this kind.
pub fn decode_json(gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Decoded, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let decoded = decode(gvk, &mut deserializer)?;
    deserializer.end().map_err(|error| Error::Syntax(error.to_string()))?;
    Ok(decoded)
}

/// Brings a value (the result of a patch, of YAML) into the same form as [`decode_json`].
pub fn decode_value(gvk: &GroupVersionKind, value: &Value) -> Result<Decoded, Error> {
    decode(gvk, value)
}

fn decode<'de, D: Deserializer<'de, Error = serde_json::Error>>(
    gvk: &GroupVersionKind,
    deserializer: D,
) -> Result<Decoded, Error> {
    let facts = facts();
    let id = facts.kind_id(gvk).ok_or_else(|| Error::UnknownKind(gvk.clone()))?;
    let mut context = Context::new(facts);
    let node = Node { context: &mut context, expected: Expected::Element(Element::Type(id), None) };
    let mut value = node.deserialize(deserializer).map_err(|error| Error::Syntax(error.to_string()))?;
    if let Some(error) = context.error {
        return Err(Error::Type(error));
    }
    if value.is_null() {
        value = zero(facts, Element::Type(id));
    }
    if facts.get(id).has_type_meta() {
        meta::set_gvk(&mut value, gvk);
    }
    Ok(Decoded { value, strict: context.strict })
}

/// Decodes JSON without a schema, as custom resources are: everything is kept, duplicates are reported.
pub fn decode_untyped(bytes: &[u8]) -> Result<Decoded, Error> {
    let mut context = Context::new(facts());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let node = Node { context: &mut context, expected: Expected::Anything };
    let value = node.deserialize(&mut deserializer).map_err(|error| Error::Syntax(error.to_string()))?;
    deserializer.end().map_err(|error| Error::Syntax(error.to_string()))?;
    Ok(Decoded { value, strict: context.strict })
}

/// What `fieldValidation=Strict` would refuse in this JSON.
pub fn validate_fields(gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Vec<StrictError>, Error> {
    decode_json(gvk, bytes).map(|decoded| decoded.strict)
}

/// The message of a strict refusal.
pub fn strict_decoding_message(errors: &[StrictError]) -> String {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", words.join(", "))
}

struct Context {
    facts: &'static Facts,
    strict: Vec<StrictError>,
    /// The first type error; decoding goes on so that syntax errors are found, as in Go.
    error: Option<String>,
    /// Where we are, with indexes and keys: `spec.containers[0]`.
    path: String,
    /// Where we are, fields only: `spec.containers`.
    fields: String,
    /// The innermost struct, by name.
    structure: &'static str,
}

impl Context {
    fn new(facts: &'static Facts) -> Self {
        Self { facts, strict: Vec::new(), error: None, path: String::new(), fields: String::new(), structure: "" }
    }

    fn report(&mut self, make: impl Fn(String) -> StrictError, name: &str) {
        if self.strict.len() < STRICT_ERRORS_MAX {
            let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
            self.strict.push(make(path));
        }
    }

    fn fail(&mut self, error: String) {
        self.error.get_or_insert(error);
    }

    /// A value of the wrong type, in the words of Go's `UnmarshalTypeError`.
    fn mismatch(&mut self, found: &str, wanted: &str) {
        let error = if self.structure.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
                self.structure, self.fields
            )
        };
        self.fail(error);
    }

    /// Steps into a field or key for the time of `inner`.
    fn within<R>(&mut self, name: &str, inner: impl FnOnce(&mut Self) -> R) -> R {
        let length = push(&mut self.path, name);
        let result = inner(self);
        self.path.truncate(length);
        result
    }
}

fn push(path: &mut String, name: &str) -> usize {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(name);
    length
}

/// What the schema wants at a place.
#[derive(Clone, Copy)]
enum Expected {
    Field(&'static Field),
    /// An item, a map's value or the object itself, with the named string it is.
    Element(Element, Option<&'static str>),
    Anything,
}

impl Expected {
    /// In Go's words.
    fn go_type(self, facts: &Facts) -> String {
        match self {
            Self::Anything => "interface {}".to_owned(),
            Self::Element(element, named) => element_type(facts, element, named),
            Self::Field(field) => {
                let element = element_type(facts, field.element, field.named);
                match field.container {
                    Container::One | Container::Pointer => element,
                    Container::List => format!("[]{element}"),
                    Container::Map => format!("map[string]{element}"),
                }
            }
        }
    }
}

fn element_type(facts: &Facts, element: Element, named: Option<&'static str>) -> String {
    match (element, named) {
        (_, Some(named)) => facts.go_name(named),
        (Element::Type(id), _) => facts.go_name(facts.get(id).name),
        (Element::Scalar(scalar), _) => match scalar {
            Scalar::String => "string",
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Uint32 => "uint32",
            Scalar::Uint64 => "uint64",
            Scalar::Double => "float64",
            Scalar::Bytes => "[]uint8",
            Scalar::Any => "interface {}",
        }
        .to_owned(),
    }
}

/// Reads one value; null stands for what Go would leave at zero.
struct Node<'c> {
    context: &'c mut Context,
    expected: Expected,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Node<'_> {
    fn mismatch(self, found: &str) -> Value {
        let wanted = self.expected.go_type(self.context.facts);
        self.context.mismatch(found, &wanted);
        Value::Null
    }

    /// The element wanted when a single value comes; none where a list or map is wanted.
    fn single(&self) -> Option<Element> {
        match self.expected {
            Expected::Anything => Some(Element::Scalar(Scalar::Any)),
            Expected::Element(element, _) => Some(element),
            Expected::Field(field) => match field.container {
                Container::One | Container::Pointer => Some(field.element),
                Container::List | Container::Map => None,
            },
        }
    }

    fn special(&self) -> Option<Special> {
        match self.single() {
            Some(Element::Type(id)) => self.context.facts.get(id).special,
            _ => None,
        }
    }

    fn number(self, number: Number) -> Value {
        let fits = match self.single() {
            Some(Element::Scalar(Scalar::Any)) => return Value::Number(number),
            Some(Element::Scalar(Scalar::Double)) => return whole_or_float(number),
            Some(Element::Scalar(Scalar::Int32)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Some(Element::Scalar(Scalar::Int64)) => number.as_i64().is_some(),
            Some(Element::Scalar(Scalar::Uint32)) => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
            Some(Element::Scalar(Scalar::Uint64)) => number.as_u64().is_some(),
            Some(Element::Type(_)) => return self.special_number(number),
            _ => return self.mismatch("number"),
        };
        if fits { Value::Number(number) } else { self.mismatch(&format!("number {number}")) }
    }

    fn special_number(self, number: Number) -> Value {
        match self.special() {
            Some(Special::Raw) => Value::Number(number),
            Some(Special::Quantity) => self.quantity(&Value::Number(number)),
            Some(Special::IntOrString) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                Value::Number(number)
            }
            Some(Special::IntOrString) => {
                self.context.fail(format!("json: cannot unmarshal number {number} into Go value of type int32"));
                Value::Null
            }
            Some(Special::Time | Special::MicroTime | Special::Duration) => self.unnamed("number", "string"),
            _ => self.mismatch("number"),
        }
    }

    /// An error of a type that decodes itself, which does not know where it is.
    fn unnamed(self, found: &str, wanted: &str) -> Value {
        self.context.fail(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
        Value::Null
    }

    fn quantity(self, value: &Value) -> Value {
        match protobuf_write::quantity(value) {
            Ok(quantity) => Value::from(quantity.to_string()),
            Err(error) => {
                self.context.fail(error.to_string());
                Value::Null
            }
        }
    }

    fn text(self, text: String) -> Value {
        match self.single() {
            Some(Element::Scalar(Scalar::String | Scalar::Any)) => Value::String(text),
            Some(Element::Scalar(Scalar::Bytes)) => match base64::decode(&text) {
                Some(bytes) => Value::String(base64::encode(&bytes)),
                None => {
                    self.context.fail("illegal base64 data at input byte 0".to_owned());
                    Value::Null
                }
            },
            Some(Element::Type(_)) => self.special_text(text),
            _ => self.mismatch("string"),
        }
    }

    fn special_text(self, text: String) -> Value {
        let checked = match self.special() {
            Some(Special::Raw | Special::IntOrString) => Ok(Value::String(text)),
            Some(Special::Quantity) => return self.quantity(&Value::String(text)),
            Some(Special::Duration) => {
                time::parse_duration(&text).map(|nanos| Value::from(time::format_duration(nanos)))
            }
            Some(Special::Time) => time::parse_time(&text)
                .map(|parsed| if time::is_zero(parsed) { Value::Null } else { Value::from(time::format_time(parsed)) }),
            Some(Special::MicroTime) => time::parse_micro_time(&text).map(|parsed| {
                if time::is_zero(parsed) { Value::Null } else { Value::from(time::format_micro_time(parsed)) }
            }),
            _ => return self.mismatch("string"),
        };
        checked.unwrap_or_else(|error| {
            self.context.fail(error.to_string());
            Value::Null
        })
    }

    fn seq_item(&self) -> Option<Expected> {
        match self.expected {
            Expected::Field(field) if field.container == Container::List => {
                Some(Expected::Element(field.element, field.named))
            }
            _ => match self.single() {
                Some(Element::Scalar(Scalar::Any)) => Some(Expected::Anything),
                Some(Element::Type(id)) => {
                    let ty = self.context.facts.get(id);
                    let member = match ty.special {
                        Some(Special::Raw) => return Some(Expected::Anything),
                        Some(Special::Items) => "items",
                        Some(Special::SchemaOrArray) => "jSONSchemas",
                        Some(Special::SchemaOrStrings) => "property",
                        _ => return None,
                    };
                    ty.field(member).map(|field| Expected::Element(field.element, None))
                }
                _ => None,
            },
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(match (self.single(), self.special()) {
            (Some(Element::Scalar(Scalar::Bool | Scalar::Any)), _)
            | (_, Some(Special::Raw | Special::SchemaOrBool)) => Value::Bool(value),
            (_, Some(Special::IntOrString)) => self.unnamed("bool", "int32"),
            (_, Some(Special::Quantity)) => self.quantity(&Value::Bool(value)),
            (_, Some(Special::Time | Special::MicroTime | Special::Duration)) => self.unnamed("bool", "string"),
            _ => self.mismatch("bool"),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(Number::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(Number::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.mismatch("number"),
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(self.text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(self.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let Some(expected) = self.seq_item() else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(match self.special() {
                Some(Special::IntOrString) => self.unnamed("array", "int32"),
                Some(Special::Time | Special::MicroTime | Special::Duration) => self.unnamed("array", "string"),
                Some(Special::Quantity) => self.quantity(&Value::Array(Vec::new())),
                _ => self.mismatch("array"),
            });
        };
        let length = self.context.path.len();
        let mut items = Vec::new();
        loop {
            use fmt::Write as _;
            write!(self.context.path, "[{}]", items.len()).expect("writing to a String does not fail");
            let item = seq.next_element_seed(Node { context: &mut *self.context, expected })?;
            self.context.path.truncate(length);
            match item {
                None => return Ok(Value::Array(items)),
                Some(item) => items.push(or_zero(self.context.facts, expected, item)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let facts = self.context.facts;
        if let Expected::Field(field) = self.expected
            && field.container == Container::Map
        {
            return entries(self.context, Expected::Element(field.element, field.named), map);
        }
        match self.single() {
            Some(Element::Scalar(Scalar::Any)) => return entries(self.context, Expected::Anything, map),
            Some(Element::Type(id)) => {
                let ty = facts.get(id);
                match ty.special {
                    None => return structure(self.context, ty, map),
                    Some(Special::Raw) => return entries(self.context, Expected::Anything, map),
                    Some(Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStrings) => {
                        if let Some(schema) = ty.field("schema").and_then(Field::element_type) {
                            return structure(self.context, schema, map);
                        }
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
        drain(map)?;
        Ok(match self.special() {
            Some(Special::IntOrString) => self.unnamed("object", "int32"),
            Some(Special::Time | Special::MicroTime | Special::Duration) => self.unnamed("object", "string"),
            Some(Special::Quantity) => self.quantity(&Value::Array(Vec::new())),
            _ => self.mismatch("object"),
        })
    }
}

fn drain<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// What a null item of a list or map reads as.
fn or_zero(facts: &Facts, expected: Expected, item: Value) -> Value {
    match expected {
        Expected::Element(element, _) if item.is_null() => zero(facts, element),
        _ => item,
    }
}

fn entries<'de, A: MapAccess<'de>>(context: &mut Context, expected: Expected, mut map: A) -> Result<Value, A::Error> {
    let mut entries = Map::new();
    while let Some(key) = map.next_key::<String>()? {
        if entries.contains_key(&key) {
            context.report(StrictError::DuplicateField, &key);
        }
        let facts = context.facts;
        let value = context.within(&key, |context| map.next_value_seed(Node { context, expected }))?;
        entries.insert(key, or_zero(facts, expected, value));
    }
    Ok(Value::Object(entries))
}

/// Reads a key as the field it names.
struct Key(&'static Type);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Result<&'static Field, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Result<&'static Field, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(name).ok_or_else(|| name.to_owned()))
    }
}

fn structure<'de, A: MapAccess<'de>>(context: &mut Context, ty: &'static Type, mut map: A) -> Result<Value, A::Error> {
    let mut object = Map::new();
    let outer = std::mem::replace(&mut context.structure, ty.name.rsplit('.').next().unwrap_or(ty.name));
    while let Some(key) = map.next_key_seed(Key(ty))? {
        match key {
            Err(unknown) => {
                context.report(StrictError::UnknownField, &unknown);
                map.next_value::<IgnoredAny>()?;
            }
            Ok(field) => {
                if object.contains_key(field.name) {
                    context.report(StrictError::DuplicateField, field.name);
                }
                let length = push(&mut context.fields, field.name);
                let value = context.within(field.name, |context| {
                    map.next_value_seed(Node { context, expected: Expected::Field(field) })
                })?;
                context.fields.truncate(length);
                // Null stays for now, so that a second occurrence is noticed.
                object.insert(field.name.to_owned(), value);
            }
        }
    }
    context.structure = outer;
    complete(context.facts, ty, &mut object);
    Ok(Value::Object(object))
}
