//! The `k8s\0` envelope, and what can be done with enveloped objects without decoding them.

use serde_json::Value;

use super::wire::{Reader, Wire, put_bytes, put_nested};
use super::{Error, decode_protobuf, encode_protobuf, json};
use crate::gvk::GroupVersionKind;

/// The four bytes before every enveloped object.
pub const MAGIC: &[u8; 4] = b"k8s\0";
/// The media type of enveloped objects.
pub const CONTENT_TYPE_PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// `ObjectMeta.resourceVersion`.
const RESOURCE_VERSION: u32 = 6;
/// `metadata` in every kind that is stored.
const METADATA: u32 = 1;
/// `items` in every list kind.
const ITEMS: u32 = 2;

/// An object in its envelope (`runtime.Unknown`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The object's `apiVersion`.
    pub api_version: &'a str,
    /// The object's kind.
    pub kind: &'a str,
    /// The object's own message.
    pub raw: &'a [u8],
    /// `""`: nothing else is in use.
    pub content_encoding: &'a str,
    /// `""` for protobuf, `application/json` for JSON.
    pub content_type: &'a str,
}

impl Unknown<'_> {
    /// The object's kind.
    pub fn gvk(&self) -> Result<GroupVersionKind, Error> {
        if self.kind.is_empty() {
            return Err(Error::Missing("Kind", "protobuf".to_owned()));
        }
        GroupVersionKind::from_api_version(self.api_version, self.kind).map_err(|error| Error::Type(error.to_string()))
    }

    /// The object.
    pub fn decode(&self) -> Result<Value, Error> {
        if self.content_type == "application/json" {
            return json::decode_untyped(self.raw).map(|decoded| decoded.value);
        }
        decode_protobuf(&self.gvk()?, self.raw)
    }
}

/// Opens an envelope.
pub fn decode_envelope(bytes: &[u8]) -> Result<Unknown<'_>, Error> {
    let message = bytes.strip_prefix(MAGIC).ok_or(Error::NotProtobuf)?;
    let mut unknown = Unknown::default();
    let mut reader = Reader::new(message)?;
    while let Some((number, wire)) = reader.next()? {
        let Wire::Bytes(bytes) = wire else {
            if number <= 4 {
                return Err(Error::Protobuf("wrong wireType"));
            }
            continue;
        };
        match number {
            1 => {
                let mut reader = Reader::new(bytes)?;
                while let Some((number, wire)) = reader.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => unknown.api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => unknown.kind = utf8(text)?,
                        (1 | 2, _) => return Err(Error::Protobuf("wrong wireType")),
                        _ => {}
                    }
                }
            }
            2 => unknown.raw = bytes,
            3 => unknown.content_encoding = utf8(bytes)?,
            4 => unknown.content_type = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(unknown)
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Protobuf("string field contains invalid UTF-8"))
}

/// Puts a bare message into an envelope.
pub fn wrap(gvk: &GroupVersionKind, raw: &[u8]) -> Vec<u8> {
    let api_version = gvk.api_version();
    let mut identity = Vec::with_capacity(api_version.len() + gvk.kind.len() + 4);
    put_bytes(&mut identity, 1, api_version.as_bytes());
    put_bytes(&mut identity, 2, gvk.kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + identity.len() + 24);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &identity);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// Encodes an object in its envelope: the stored form, and the body of protobuf requests and responses.
pub fn encode_envelope(gvk: &GroupVersionKind, value: &Value) -> Result<Vec<u8>, Error> {
    Ok(wrap(gvk, &encode_protobuf(gvk, value)?))
}

/// Decodes a stored object: an envelope, or JSON.
pub fn decode_any(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.starts_with(MAGIC) {
        decode_envelope(bytes)?.decode()
    } else {
        json::decode_untyped(bytes).map(|decoded| decoded.value)
    }
}

/// Puts enveloped objects into an enveloped list, without decoding them. `metadata` is the list's `ListMeta`.
pub fn encode_list<'a>(
    list: &GroupVersionKind,
    metadata: &Value,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Error> {
    let empty = serde_json::json!({ "metadata": metadata });
    // A list without items is its metadata.
    let mut raw = encode_protobuf(list, &empty)?;
    for item in items {
        put_bytes(&mut raw, ITEMS, decode_envelope(item)?.raw);
    }
    Ok(wrap(list, &raw))
}

/// One event of a protobuf watch: a bare `WatchEvent` around an enveloped object. On the wire each event is preceded by
/// its length as four big-endian bytes (apimachinery `pkg/util/framer`).
pub fn encode_watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + event_type.len() + 24);
    put_bytes(&mut out, 1, event_type.as_bytes());
    let mut extension = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut extension, 1, object);
    put_bytes(&mut out, 2, &extension);
    out
}

/// Gives a stored object the revision it was stored at, without decoding it: stored bytes carry none, since it is known
/// only afterwards.
pub fn set_resource_version(envelope: &[u8], revision: u64) -> Result<Vec<u8>, Error> {
    let unknown = decode_envelope(envelope)?;
    let gvk = unknown.gvk()?;
    let text = if revision == 0 { String::new() } else { revision.to_string() };
    let mut raw = Vec::with_capacity(unknown.raw.len() + 24);
    let mut found = false;
    copy_fields(unknown.raw, &mut raw, |number, bytes, out| {
        if number != METADATA || found {
            return Ok(false);
        }
        found = true;
        put_nested(out, METADATA, |out| put_revision(bytes, &text, out))?;
        Ok(true)
    })?;
    if !found {
        return Err(Error::Protobuf("object without metadata"));
    }
    Ok(wrap(&gvk, &raw))
}

fn put_revision(metadata: &[u8], text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut done = false;
    copy_fields(metadata, out, |number, _, out| {
        if !done && number >= RESOURCE_VERSION {
            put_bytes(out, RESOURCE_VERSION, text.as_bytes());
            done = true;
        }
        Ok(number == RESOURCE_VERSION)
    })?;
    if !done {
        put_bytes(out, RESOURCE_VERSION, text.as_bytes());
    }
    Ok(())
}

/// Copies a message field by field; `instead` sees each before it is copied and says whether to leave it out. It gets the
/// content of length-delimited fields only.
fn copy_fields(
    message: &[u8],
    out: &mut Vec<u8>,
    mut instead: impl FnMut(u32, &[u8], &mut Vec<u8>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut reader = Reader::new(message)?;
    let mut start = 0;
    while let Some((number, wire)) = reader.next()? {
        let end = message.len() - reader.remaining();
        let bytes = if let Wire::Bytes(bytes) = wire { bytes } else { &[] };
        if !instead(number, bytes, out)? {
            out.extend_from_slice(&message[start..end]);
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> (GroupVersionKind, Value) {
        let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
        (
            gvk,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "generation": 3}, "data": {"k": "v"}}),
        )
    }

    #[test]
    fn a_revision_is_spliced_into_stored_bytes() {
        let (gvk, mut value) = pod();
        let stored = encode_envelope(&gvk, &value).unwrap();
        for revision in [7, 123_456_789_012, 0] {
            crate::meta::set_resource_version(&mut value, revision);
            assert_eq!(set_resource_version(&stored, revision), encode_envelope(&gvk, &value));
        }
    }

    #[test]
    fn lists_are_concatenations() {
        let (gvk, value) = pod();
        let item = encode_envelope(&gvk, &value).unwrap();
        let list = GroupVersionKind::new("", "v1", "ConfigMapList");
        let bytes = encode_list(&list, &json!({"resourceVersion": "9"}), [&*item, &*item]).unwrap();
        let decoded = decode_any(&bytes).unwrap();
        let bare = json!({"metadata": {"name": "a", "generation": 3}, "data": {"k": "v"}});
        assert_eq!(
            decoded,
            json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "9"}, "items": [bare, bare]})
        );
    }

    #[test]
    fn watch_events_carry_the_enveloped_object() {
        let (gvk, value) = pod();
        let bytes = encode_watch_event("ADDED", &encode_envelope(&gvk, &value).unwrap());
        let event = decode_protobuf(&GroupVersionKind::new("", "v1", "WatchEvent"), &bytes).unwrap();
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &value));
    }

    #[test]
    fn what_is_not_enveloped_is_said_to_be_not() {
        assert_eq!(decode_envelope(b"{}"), Err(Error::NotProtobuf));
        assert!(decode_envelope(b"k8s\0\x08\x01").is_err());
        assert!(matches!(decode_any(b"k8s\0"), Err(Error::Missing(..))));
    }
}
