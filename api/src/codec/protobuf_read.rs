//! Protobuf to `Value`.

use serde_json::{Map, Number, Value};

use super::scalar::{complete, zero};
use super::wire::{Reader, Wire};
use super::{DEPTH_MAX, Error};
use crate::facts::{Container, Element, Facts, Field, Scalar, Special, Type, facts};
use crate::gvk::GroupVersionKind;
use crate::{meta, time};

const WRONG_WIRE: Error = Error::Protobuf("wrong wireType");

/// Decodes a bare message (no envelope) of this kind, and gives it `apiVersion` and `kind`.
pub fn decode_protobuf(gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Value, Error> {
    let facts = facts();
    let ty = facts.kind(gvk).ok_or_else(|| Error::UnknownKind(gvk.clone()))?;
    let mut map = Map::new();
    fields(facts, ty, bytes, &mut map, DEPTH_MAX)?;
    complete(facts, ty, &mut map);
    let mut value = Value::Object(map);
    if ty.has_type_meta() {
        meta::set_gvk(&mut value, gvk);
    }
    Ok(value)
}

/// Reads the fields of a message into `map`; zero values are not yet dealt with.
fn fields(facts: &Facts, ty: &Type, bytes: &[u8], map: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
    let mut reader = Reader::new(bytes)?;
    while let Some((number, wire)) = reader.next()? {
        // Unknown fields are skipped, as gogo's generated code does: they come from newer versions.
        let Ok(index) = ty.by_number.binary_search_by_key(&number, |index| ty.fields[usize::from(*index)].number)
        else {
            continue;
        };
        let field = &ty.fields[usize::from(ty.by_number[index])];
        match (field.inline, field.element) {
            (true, Element::Type(id)) => fields(facts, facts.get(id), message(wire)?, map, depth)?,
            _ => field_into(facts, field, wire, map, depth)?,
        }
    }
    Ok(())
}

fn message(wire: Wire<'_>) -> Result<&[u8], Error> {
    match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(WRONG_WIRE),
    }
}

fn field_into(
    facts: &Facts,
    field: &Field,
    wire: Wire<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    match field.container {
        Container::One | Container::Pointer => {
            let value = element(facts, field.element, wire, map.remove(field.name), depth)?;
            // A nil `interface{}`, raw JSON or zero time behind a pointer stays visible as null would not: drop it.
            map.insert(field.name.to_owned(), value);
        }
        Container::List => {
            let list = map.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = list else { return Err(WRONG_WIRE) };
            match (field.element, wire) {
                // Packed numbers are read though never written.
                (Element::Scalar(scalar), Wire::Bytes(bytes)) if is_varint(scalar) => packed(scalar, bytes, items)?,
                _ => items.push(element(facts, field.element, wire, None, depth)?),
            }
        }
        Container::Map => {
            let (key, value) = entry(facts, field.element, message(wire)?, depth)?;
            let entries = map.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            entries.as_object_mut().ok_or(WRONG_WIRE)?.insert(key, value);
        }
    }
    Ok(())
}

fn is_varint(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64 | Scalar::Bool)
}

fn packed(scalar: Scalar, bytes: &[u8], items: &mut Vec<Value>) -> Result<(), Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte < 0x80).ok_or(Error::Protobuf("unexpected EOF"))?;
        if end >= 10 {
            return Err(Error::Protobuf("integer overflow"));
        }
        let number = rest[..=end].iter().rev().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
        items.push(varint(scalar, number));
        rest = &rest[end + 1..];
    }
    Ok(())
}

fn varint(scalar: Scalar, number: u64) -> Value {
    match scalar {
        Scalar::Bool => Value::Bool(number != 0),
        Scalar::Int32 => Value::from(number as i32),
        Scalar::Uint32 => Value::from(number as u32),
        Scalar::Uint64 => Value::from(number),
        _ => Value::from(number as i64),
    }
}

fn text(bytes: &[u8]) -> String {
    // Go strings may hold anything; its JSON replaces what is not UTF-8.
    String::from_utf8_lossy(bytes).into_owned()
}

/// One value; `before` is what an earlier occurrence of the field left, which messages merge into.
fn element(
    facts: &Facts,
    element: Element,
    wire: Wire<'_>,
    before: Option<Value>,
    depth: usize,
) -> Result<Value, Error> {
    match element {
        Element::Type(id) => {
            let ty = facts.get(id);
            let bytes = message(wire)?;
            if let Some(special) = ty.special {
                return special_value(facts, ty, special, bytes, depth);
            }
            let mut map = match before {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            fields(facts, ty, bytes, &mut map, depth)?;
            complete(facts, ty, &mut map);
            Ok(Value::Object(map))
        }
        Element::Scalar(Scalar::String) => Ok(Value::String(text(message(wire)?))),
        Element::Scalar(Scalar::Bytes) => Ok(Value::String(super::base64::encode(message(wire)?))),
        Element::Scalar(Scalar::Double) => match wire {
            Wire::Fixed64(bits) => Ok(Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, whole_or_float)),
            _ => Err(WRONG_WIRE),
        },
        Element::Scalar(Scalar::Any) => Err(WRONG_WIRE),
        Element::Scalar(scalar) => match wire {
            Wire::Varint(number) => Ok(varint(scalar, number)),
            _ => Err(WRONG_WIRE),
        },
    }
}

/// Go prints whole floats without a point.
pub(super) fn whole_or_float(number: Number) -> Value {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Value::from(float as i64),
        _ => Value::Number(number),
    }
}

fn entry(facts: &Facts, kind: Element, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
    let mut reader = Reader::new(bytes)?;
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = text(message(wire)?),
            2 => value = Some(element(facts, kind, wire, None, depth)?),
            _ => {}
        }
    }
    let absent = || match kind {
        Element::Scalar(Scalar::Bytes) => Value::from(""),
        other => zero(facts, other),
    };
    Ok((key, value.unwrap_or_else(absent)))
}

fn special_value(facts: &Facts, ty: &Type, special: Special, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    match special {
        Special::Raw => raw(bytes),
        Special::Quantity => quantity(bytes),
        Special::Items => {
            let mut map = Map::new();
            fields(facts, ty, bytes, &mut map, depth)?;
            Ok(map.remove("items").unwrap_or_else(|| Value::Array(Vec::new())))
        }
        Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStrings => {
            let mut map = Map::new();
            fields(facts, ty, bytes, &mut map, depth)?;
            let schema = map.remove("schema").filter(|schema| !schema.is_null());
            Ok(match special {
                Special::SchemaOrBool => {
                    schema.unwrap_or_else(|| Value::Bool(map.get("allows").and_then(Value::as_bool).unwrap_or(false)))
                }
                Special::SchemaOrArray => map.remove("jSONSchemas").or(schema).unwrap_or(Value::Null),
                _ => map.remove("property").or(schema).unwrap_or(Value::Null),
            })
        }
        Special::IntOrString | Special::Time | Special::MicroTime | Special::Duration => numbers(special, bytes),
    }
}

fn raw(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes)?;
    let mut value = Value::Null;
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            let json = message(wire)?;
            if !json.is_empty() {
                value = raw_json(json)?;
            }
        }
    }
    Ok(value)
}

/// Raw bytes are JSON, or an object's own envelope as in the `WatchEvent`s of protobuf watches.
fn raw_json(json: &[u8]) -> Result<Value, Error> {
    if json.starts_with(super::MAGIC) {
        return super::decode_any(json);
    }
    serde_json::from_slice(json).map_err(|error| Error::Syntax(error.to_string()))
}

fn quantity(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes)?;
    let mut value = Value::from("0");
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            let quantity: crate::Quantity = text(message(wire)?)
                .parse()
                .map_err(|error: crate::quantity::ParseError| Error::Type(error.to_string()))?;
            value = Value::from(quantity.to_string());
        }
    }
    Ok(value)
}

fn numbers(special: Special, bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(bytes)?;
    let (mut numbers, mut string) = ([0_i64; 3], String::new());
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1 | 2, Wire::Varint(value)) => numbers[number as usize] = value as i64,
            (3, Wire::Bytes(bytes)) => string = text(bytes),
            (1..=3, _) => return Err(WRONG_WIRE),
            _ => {}
        }
    }
    Ok(match special {
        Special::IntOrString if numbers[1] == 0 => Value::from(numbers[2] as i32),
        Special::IntOrString => Value::from(string),
        Special::Duration => Value::from(time::format_duration(numbers[1])),
        // An empty message is the zero time.
        _ if bytes.is_empty() => Value::Null,
        _ => {
            let nanos = i32::try_from(numbers[2]).map_err(|_| Error::Protobuf("time out of range"))?;
            let timestamp =
                jiff::Timestamp::new(numbers[1], nanos).map_err(|_| Error::Protobuf("time out of range"))?;
            if time::is_zero(timestamp) {
                Value::Null
            } else if special == Special::MicroTime {
                Value::from(time::format_micro_time(timestamp))
            } else {
                Value::from(time::format_time(timestamp))
            }
        }
    })
}
