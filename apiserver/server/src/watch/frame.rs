//! Frames of a watch: JSON lines, or protobuf with a length in front (apimachinery `pkg/util/framer`).

use crate::cache::Entry;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use xebec_api::Status;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// New to the watcher.
    Added,
    /// Changed.
    Modified,
    /// Gone for the watcher.
    Deleted,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// How frames are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON object a line.
    JsonLines,
    /// Four bytes of length, then a `metav1.WatchEvent` in protobuf.
    Protobuf,
}

/// Renders an object as the watcher wants it: JSON, or protobuf in its envelope.
pub type Render = Arc<dyn Fn(&Entry) -> Bytes + Send + Sync>;
/// Renders a `Status`.
pub type RenderStatus = Arc<dyn Fn(&Status) -> Bytes + Send + Sync>;

/// Encodes events for one watcher.
pub struct FrameEncoder {
    /// Delimiting.
    pub framing: Framing,
    /// Objects.
    pub render: Render,
    /// Failures.
    pub render_status: RenderStatus,
}

impl FrameEncoder {
    pub(super) fn event(&self, kind: EventType, entry: &Entry, out: &mut BytesMut) {
        self.frame(kind.name(), &(self.render)(entry), out);
    }

    /// A bookmark at `revision`; `initial` marks the end of the initial events.
    pub(super) fn bookmark(&self, revision: i64, initial: bool, out: &mut BytesMut) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": Value::Null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let json = Bytes::from(json!({"metadata": metadata}).to_string());
        let entry = Entry::new(revision, serde_json::Map::new(), BTreeMap::new(), json);
        self.frame("BOOKMARK", &(self.render)(&entry), out);
    }

    pub(super) fn error(&self, status: &Status, out: &mut BytesMut) {
        self.frame("ERROR", &(self.render_status)(status), out);
    }

    /// A frame that says `status`.
    pub fn error_frame(&self, status: &Status) -> Bytes {
        let mut out = BytesMut::new();
        self.error(status, &mut out);
        out.freeze()
    }

    fn frame(&self, kind: &str, object: &[u8], out: &mut BytesMut) {
        match self.framing {
            Framing::JsonLines => {
                out.reserve(object.len() + 40);
                out.put_slice(b"{\"type\":\"");
                out.put_slice(kind.as_bytes());
                out.put_slice(b"\",\"object\":");
                out.put_slice(object);
                out.put_slice(b"}\n");
            }
            Framing::Protobuf => {
                // WatchEvent { string type = 1; RawExtension object = 2 { bytes raw = 1 } }
                let raw_len = 1 + varint_len(object.len()) + object.len();
                let body_len = 2 + kind.len() + 1 + varint_len(raw_len) + raw_len;
                out.reserve(4 + body_len);
                out.put_u32(u32::try_from(body_len).unwrap_or(u32::MAX));
                out.put_u8(0x0a);
                put_varint(out, kind.len());
                out.put_slice(kind.as_bytes());
                out.put_u8(0x12);
                put_varint(out, raw_len);
                out.put_u8(0x0a);
                put_varint(out, object.len());
                out.put_slice(object);
            }
        }
    }
}

fn varint_len(mut n: usize) -> usize {
    let mut len = 1;
    while n >= 0x80 {
        n >>= 7;
        len += 1;
    }
    len
}

fn put_varint(out: &mut BytesMut, mut n: usize) {
    while n >= 0x80 {
        out.put_u8((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(framing: Framing) -> FrameEncoder {
        FrameEncoder {
            framing,
            render: Arc::new(|entry| entry.json.clone()),
            render_status: Arc::new(|status| Bytes::from(status.to_value().to_string())),
        }
    }

    #[test]
    fn json_frames_are_lines() {
        let entry = Entry::new(3, serde_json::Map::new(), BTreeMap::new(), Bytes::from_static(b"{\"a\":1}"));
        let mut out = BytesMut::new();
        encoder(Framing::JsonLines).event(EventType::Added, &entry, &mut out);
        assert_eq!(&out[..], b"{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n");
    }

    #[test]
    fn protobuf_frames_carry_their_length() {
        let body = vec![b'x'; 300];
        let entry = Entry::new(3, serde_json::Map::new(), BTreeMap::new(), Bytes::from(body));
        let mut out = BytesMut::new();
        encoder(Framing::Protobuf).event(EventType::Deleted, &entry, &mut out);
        let length = u32::from_be_bytes([out[0], out[1], out[2], out[3]]) as usize;
        assert_eq!(length, out.len() - 4);
        assert_eq!(&out[4..13], b"\x0a\x07DELETED");
        assert_eq!(&out[13..19], &[0x12, 0xaf, 0x02, 0x0a, 0xac, 0x02]);
    }
}
