//! Sound messages by descriptor: any message of the contracts, with values that mean something to the store.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use xebec_store_dice::Dice;

/// How deep messages stand in each other.
const DEPTH_MAX: usize = 4;
/// Elements of a list.
const ELEMENTS_MAX: usize = 4;
/// Keys, values, names: few, so that requests meet each other's data.
const WORDS: [&[u8]; 14] = [
    b"",
    b"a",
    b"b",
    b"a/b",
    b"\0",
    b"c",
    b"\xff",
    b"\xff\xff",
    b"a\0",
    b"root",
    b"r",
    b"word",
    b"3.6.0",
    b"http://a:1",
];
/// Numbers that have an edge.
pub const NUMBERS: [i64; 22] = [
    0,
    1,
    2,
    3,
    5,
    7,
    10,
    60,
    100,
    127,
    128,
    -1,
    -2,
    255,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    9_000_000_000,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
];

/// The contracts.
#[must_use]
pub fn pool() -> DescriptorPool {
    DescriptorPool::decode(xebec_proto::FILE_DESCRIPTOR_SET).expect("the build wrote these descriptors")
}

/// The bytes of some message of this type.
#[must_use]
pub fn message(descriptor: &MessageDescriptor, dice: &mut Dice) -> Vec<u8> {
    build(descriptor, dice, 0).encode_to_vec()
}

fn build(descriptor: &MessageDescriptor, dice: &mut Dice, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let is_required = field.name() == "key" || field.containing_oneof().is_some();
        if !dice.one_in(if is_required { 1 } else { 2 }) {
            continue;
        }
        if field.is_map() {
            continue;
        }
        let value = if field.is_list() {
            let count = if depth >= DEPTH_MAX { 0 } else { dice.below(ELEMENTS_MAX) };
            Value::List((0..count).map(|_| single(&field, dice, depth)).collect())
        } else if depth >= DEPTH_MAX && matches!(field.kind(), Kind::Message(_)) {
            continue;
        } else if field.containing_oneof().is_some() && dice.one_in(2) && message.fields().next().is_some() {
            // The last member of a oneof wins: not always the same one shall.
            continue;
        } else {
            single(&field, dice, depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn single(field: &FieldDescriptor, dice: &mut Dice, depth: usize) -> Value {
    let number = *dice.pick(&NUMBERS);
    match field.kind() {
        Kind::Bool => Value::Bool(dice.one_in(2)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number as u64),
        Kind::Float => Value::F32(number as f32),
        Kind::Double => Value::F64(number as f64),
        Kind::String => Value::String(String::from_utf8_lossy(dice.word(&WORDS)).into_owned()),
        Kind::Bytes => Value::Bytes(Bytes::from_static(dice.word(&WORDS))),
        Kind::Message(nested) => Value::Message(build(&nested, dice, depth + 1)),
        Kind::Enum(values) => {
            let known: Vec<i32> = values.values().map(|value| value.number()).collect();
            Value::EnumNumber(if dice.one_in(12) { number as i32 } else { *dice.pick(&known) })
        }
    }
}

#[cfg(test)]
mod tests {
    use xebec_proto::etcdserverpb as pb;

    use super::*;

    #[test]
    fn every_message_of_the_contracts_can_be_made_and_is_sound() {
        let pool = pool();
        let mut dice = Dice::new(1);
        for descriptor in pool.all_messages() {
            for _ in 0..3 {
                let bytes = message(&descriptor, &mut dice);
                DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
            }
        }
        let txn = pool.get_message_by_name("etcdserverpb.TxnRequest").unwrap();
        let nested = (0..200).any(|_| {
            let made = pb::TxnRequest::decode(message(&txn, &mut dice).as_slice()).unwrap();
            made.success.iter().any(|op| matches!(op.request, Some(pb::request_op::Request::RequestTxn(_))))
        });
        assert!(nested, "no transaction stands in another");
    }
}
