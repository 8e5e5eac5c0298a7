//! `Value` to protobuf, in the bytes gogo's generated code writes (`generated.pb.go` of k8s.io/api): fields by number,
//! scalars that are not pointers always, maps by key.

use serde_json::{Map, Value};

use super::wire::{put_bytes, put_fixed64, put_nested, put_number};
use super::{DEPTH_MAX, Error};
use crate::facts::{Container, Element, Facts, Field, Scalar, Special, Type, facts};
use crate::gvk::GroupVersionKind;
use crate::{Quantity, time};

/// Encodes an object of this kind as a bare message (no envelope).
pub fn encode_protobuf(gvk: &GroupVersionKind, value: &Value) -> Result<Vec<u8>, Error> {
    let facts = facts();
    let ty = facts.kind(gvk).ok_or_else(|| Error::UnknownKind(gvk.clone()))?;
    let mut out = Vec::with_capacity(1024);
    message(facts, ty, value.as_object().ok_or_else(|| mismatch(value, ty.name))?, &mut out, DEPTH_MAX)?;
    Ok(out)
}

fn mismatch(value: &Value, wanted: &str) -> Error {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Error::Type(format!("json: cannot unmarshal {kind} into Go value of type {wanted}"))
}

fn message(facts: &Facts, ty: &Type, map: &Map<String, Value>, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
    for index in &ty.by_number {
        let field = &ty.fields[usize::from(*index)];
        if let (true, Element::Type(id)) = (field.inline, field.element) {
            put_nested(out, field.number, |out| message(facts, facts.get(id), map, out, depth))?;
            continue;
        }
        write_field(facts, field, map.get(field.name).filter(|value| !value.is_null()), out, depth)?;
    }
    Ok(())
}

fn write_field(
    facts: &Facts,
    field: &Field,
    value: Option<&Value>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    match (field.container, value) {
        (Container::One, None) => {
            // A nil slice: bytes, or a list wrapped in a message.
            let nil = match field.element {
                Element::Scalar(scalar) => scalar == Scalar::Bytes,
                Element::Type(id) => facts.get(id).special == Some(Special::Items),
            };
            if nil { Ok(()) } else { element(facts, field.number, field.element, &Value::Null, out, depth) }
        }
        (_, None) => Ok(()),
        (Container::One | Container::Pointer, Some(value)) => {
            element(facts, field.number, field.element, value, out, depth)
        }
        (Container::List, Some(value)) => {
            let items = value.as_array().ok_or_else(|| mismatch(value, field.name))?;
            items.iter().try_for_each(|item| element(facts, field.number, field.element, item, out, depth))
        }
        (Container::Map, Some(value)) => {
            let entries = value.as_object().ok_or_else(|| mismatch(value, field.name))?;
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| key.as_str());
            sorted.into_iter().try_for_each(|(key, value)| {
                put_nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    if value.is_null() && field.element == Element::Scalar(Scalar::Bytes) {
                        return Ok(());
                    }
                    element(facts, 2, field.element, value, out, depth)
                })
            })
        }
    }
}

/// One value under a number; null is the zero value.
fn element(
    facts: &Facts,
    number: u32,
    element: Element,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    match element {
        Element::Scalar(scalar) => write_scalar(number, scalar, value, out),
        Element::Type(id) => {
            let ty = facts.get(id);
            put_nested(out, number, |out| match (ty.special, value) {
                (Some(special), _) => write_special(facts, ty, special, value, out, depth),
                (None, Value::Object(map)) => message(facts, ty, map, out, depth),
                (None, Value::Null) => message(facts, ty, &Map::new(), out, depth),
                (None, other) => Err(mismatch(other, ty.name)),
            })
        }
    }
}

fn write_scalar(number: u32, scalar: Scalar, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    match (scalar, value) {
        (Scalar::String | Scalar::Bytes, Value::Null) => put_bytes(out, number, b""),
        (Scalar::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Scalar::Bytes, Value::String(text)) => {
            let bytes = super::base64::decode(text).ok_or_else(|| mismatch(value, "[]uint8"))?;
            put_bytes(out, number, &bytes);
        }
        (Scalar::Bool, Value::Null) => put_number(out, number, 0),
        (Scalar::Bool, Value::Bool(on)) => put_number(out, number, u64::from(*on)),
        (Scalar::Double, Value::Null) => put_fixed64(out, number, 0),
        (Scalar::Double, Value::Number(float)) => put_fixed64(out, number, float.as_f64().unwrap_or(0.0).to_bits()),
        (Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64, Value::Null) => put_number(out, number, 0),
        (Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64, Value::Number(_)) => {
            put_number(out, number, integer(scalar, value).ok_or_else(|| mismatch(value, "int64"))?);
        }
        _ => return Err(mismatch(value, "scalar")),
    }
    Ok(())
}

/// An integer of the scalar's range, sign-extended as protobuf wants it.
fn integer(scalar: Scalar, value: &Value) -> Option<u64> {
    match scalar {
        Scalar::Int32 => i32::try_from(value.as_i64()?).ok().map(|number| i64::from(number) as u64),
        Scalar::Uint32 => u32::try_from(value.as_u64()?).ok().map(u64::from),
        Scalar::Uint64 => value.as_u64(),
        _ => value.as_i64().map(|number| number as u64),
    }
}

fn write_special(
    facts: &Facts,
    ty: &Type,
    special: Special,
    value: &Value,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Error> {
    match special {
        Special::Raw if value.is_null() => {}
        Special::Raw => put_bytes(out, 1, value.to_string().as_bytes()),
        Special::Quantity => put_bytes(out, 1, quantity(value)?.to_string().as_bytes()),
        Special::Items => {
            for item in value.as_array().ok_or_else(|| mismatch(value, ty.name))? {
                write_scalar(1, Scalar::String, item, out)?;
            }
        }
        Special::IntOrString => {
            let (kind, number, text) = match value {
                Value::Null => (0, 0, ""),
                Value::String(text) => (1, 0, text.as_str()),
                other => (0, integer(Scalar::Int32, other).ok_or_else(|| mismatch(other, "int32"))?, ""),
            };
            put_number(out, 1, kind);
            put_number(out, 2, number);
            put_bytes(out, 3, text.as_bytes());
        }
        Special::Duration => {
            let nanos = match value {
                Value::Null => 0,
                Value::String(text) => time::parse_duration(text).map_err(|error| Error::Type(error.to_string()))?,
                other => return Err(mismatch(other, "string")),
            };
            put_number(out, 1, nanos as u64);
        }
        Special::Time | Special::MicroTime => write_time(special, value, out)?,
        Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStrings => {
            let mut map = Map::new();
            match (special, value) {
                (_, Value::Null) => {}
                (Special::SchemaOrBool, Value::Bool(_)) => drop(map.insert("allows".into(), value.clone())),
                (Special::SchemaOrBool, Value::Object(_)) => {
                    map.insert("allows".into(), Value::Bool(true));
                    map.insert("schema".into(), value.clone());
                }
                (Special::SchemaOrArray, Value::Array(_)) => drop(map.insert("jSONSchemas".into(), value.clone())),
                (Special::SchemaOrStrings, Value::Array(_)) => drop(map.insert("property".into(), value.clone())),
                (_, Value::Object(_)) => drop(map.insert("schema".into(), value.clone())),
                (_, other) => return Err(mismatch(other, ty.name)),
            }
            message(facts, ty, &map, out, depth)?;
        }
    }
    Ok(())
}

/// A quantity out of JSON, where it may be a bare number.
pub(super) fn quantity(value: &Value) -> Result<Quantity, Error> {
    let parsed = match value {
        Value::Null => return Ok(Quantity::default()),
        Value::String(text) => text.parse(),
        Value::Number(number) => number.to_string().parse(),
        _ => Err(crate::quantity::ParseError::Format),
    };
    parsed.map_err(|error| Error::Type(error.to_string()))
}

fn write_time(special: Special, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let text = match value {
        Value::Null => return Ok(()),
        Value::String(text) => text,
        other => return Err(mismatch(other, "string")),
    };
    let timestamp = time::parse_time(text).map_err(|error| Error::Type(error.to_string()))?;
    if time::is_zero(timestamp) {
        return Ok(());
    }
    // jiff counts towards zero, Go's Unix() downwards.
    let total = timestamp.as_nanosecond();
    let seconds = total.div_euclid(1_000_000_000) as i64;
    let micros = total.rem_euclid(1_000_000_000) / 1000;
    put_number(out, 1, seconds as u64);
    put_number(out, 2, if special == Special::MicroTime { micros as u64 * 1000 } else { 0 });
    Ok(())
}
