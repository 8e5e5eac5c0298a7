//! Protobuf's wire format as a list of fields, without knowing what they mean.

use prost::encoding::{decode_varint, encode_varint};

/// How deep lengths are tried as messages.
const DEPTH_MAX: usize = 6;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u64,
    /// Its value.
    pub value: Value,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Four bytes.
    Fixed32([u8; 4]),
    /// Bytes that are no message.
    Bytes(Vec<u8>),
    /// Bytes that may be a message.
    Message(Vec<Field>),
}

/// Reads a message; `None` if the bytes are not one.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Vec<Field>> {
    parse_within(bytes, 0)
}

fn parse_within(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = decode_varint(&mut bytes).ok()?;
        let value = match key & 7 {
            0 => Value::Varint(decode_varint(&mut bytes).ok()?),
            1 => {
                let (head, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Value::Fixed64(*head)
            }
            2 => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (body, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match parse_within(body, depth + 1) {
                    Some(nested) if depth < DEPTH_MAX && !nested.is_empty() => Value::Message(nested),
                    _ => Value::Bytes(body.to_vec()),
                }
            }
            5 => {
                let (head, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Value::Fixed32(*head)
            }
            _ => return None,
        };
        fields.push(Field { number: key >> 3, value });
    }
    Some(fields)
}

/// Writes a message.
#[must_use]
pub fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        let kind = match &field.value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) | Value::Message(_) => 2,
            Value::Fixed32(_) => 5,
        };
        encode_varint(field.number << 3 | kind, &mut out);
        match &field.value {
            Value::Varint(number) => encode_varint(*number, &mut out),
            Value::Fixed64(bytes) => out.extend_from_slice(bytes),
            Value::Fixed32(bytes) => out.extend_from_slice(bytes),
            Value::Bytes(bytes) => write_bytes(bytes, &mut out),
            Value::Message(fields) => write_bytes(&write(fields), &mut out),
        }
    }
    out
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use xebec_proto::etcdserverpb as pb;

    #[test]
    fn a_message_reads_back_as_its_fields() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), lease: -1, ..Default::default() };
        let request = Some(pb::request_op::Request::RequestPut(put));
        let txn = pb::TxnRequest { success: vec![pb::RequestOp { request }], ..Default::default() };
        let bytes = txn.encode_to_vec();
        let fields = parse(&bytes).unwrap();
        assert!(matches!(&fields[0].value, Value::Message(_)), "{fields:?}");
        assert_eq!(write(&fields), bytes);
        assert_eq!(parse(&[0xff]), None);
    }
}
