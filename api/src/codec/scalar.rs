//! Zero values, and what of an object Go would print: shared by the JSON and the protobuf reader.

use serde_json::{Map, Value};

use crate::facts::{Container, Element, Facts, Field, Presence, Scalar, Special, Type};

/// The zero value of an element as JSON prints it.
pub(super) fn zero(facts: &Facts, element: Element) -> Value {
    match element {
        Element::Scalar(Scalar::String) => Value::from(""),
        Element::Scalar(Scalar::Bool) => Value::Bool(false),
        Element::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64 | Scalar::Double) => {
            Value::from(0)
        }
        Element::Scalar(Scalar::Bytes | Scalar::Any) => Value::Null,
        Element::Type(id) => {
            let ty = facts.get(id);
            match ty.special {
                Some(Special::Quantity) => Value::from("0"),
                Some(Special::Duration) => Value::from("0s"),
                Some(Special::IntOrString) => Value::from(0),
                Some(Special::SchemaOrBool) => Value::Bool(false),
                Some(_) => Value::Null,
                None => {
                    let mut map = Map::new();
                    complete(facts, ty, &mut map);
                    Value::Object(map)
                }
            }
        }
    }
}

/// Turns what was read of an object into what Go would print of it: zero values that are printed are added, those that
/// are left out removed.
pub(super) fn complete(facts: &Facts, ty: &Type, map: &mut Map<String, Value>) {
    for field in &ty.fields {
        if let (true, Element::Type(id)) = (field.inline, field.element) {
            complete(facts, facts.get(id), map);
            continue;
        }
        let present = match map.get(field.name) {
            None | Some(Value::Null) => None,
            Some(value) => Some(is_empty(field, value)),
        };
        match (present, field.presence) {
            (Some(false), _) | (Some(true), Presence::Keep) => {}
            (Some(true), _) => {
                map.remove(field.name);
            }
            (None, _) => absent(facts, field, map),
        }
    }
}

/// A field that is nil, or was not there.
fn absent(facts: &Facts, field: &Field, map: &mut Map<String, Value>) {
    let is_struct = field.container == Container::One
        && match field.element {
            // A list in Go, whatever it is in protobuf.
            Element::Type(id) => facts.get(id).special != Some(Special::Items),
            Element::Scalar(_) => false,
        };
    let printed = match field.presence {
        Presence::Keep => true,
        Presence::OmitEmpty => is_struct,
        Presence::OmitZero => false,
    };
    if !printed {
        map.remove(field.name);
    } else if field.container == Container::One {
        map.insert(field.name.to_owned(), zero(facts, field.element));
    } else {
        map.insert(field.name.to_owned(), Value::Null);
    }
}

/// Whether `omitempty` leaves this value out: never a pointer's, never a struct's.
fn is_empty(field: &Field, value: &Value) -> bool {
    match field.container {
        Container::Pointer => false,
        Container::List => value.as_array().is_some_and(Vec::is_empty),
        Container::Map => value.as_object().is_some_and(Map::is_empty),
        Container::One => match (field.element, value) {
            (Element::Scalar(_), Value::Bool(on)) => !on,
            (Element::Scalar(_), Value::String(text)) => text.is_empty(),
            (Element::Scalar(_), Value::Number(number)) => number.as_f64() == Some(0.0),
            // Items.
            (Element::Type(_), Value::Array(items)) => items.is_empty(),
            _ => false,
        },
    }
}
