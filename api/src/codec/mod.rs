//! JSON and protobuf, by facts.
//!
//! An object in memory is the `Value` that Go's `encoding/json` would have printed: [`decode_json`] and
//! [`decode_protobuf`] give the same `Value` for the same object, and [`encode_protobuf`] gives upstream's bytes.
//!
//! At rest and on the wire protobuf travels in an envelope ([`Unknown`]): `k8s\0` and a message with `apiVersion`,
//! `kind` and the object's own bytes (apimachinery `pkg/runtime/serializer/protobuf/protobuf.go`).

mod base64;
mod envelope;
mod error;
mod json;
mod protobuf_read;
mod protobuf_write;
mod scalar;
mod wire;

pub use envelope::{
    CONTENT_TYPE_PROTOBUF, MAGIC, Unknown, decode_any, decode_envelope, encode_envelope, encode_list,
    encode_watch_event, set_resource_version, wrap,
};
pub use error::{Error, StrictError};
pub use json::{
    Decoded, decode_json, decode_untyped, decode_value, peek_type, strict_decoding_message, validate_fields,
};
pub use protobuf_read::decode_protobuf;
pub use protobuf_write::encode_protobuf;

/// Deepest nesting of a protobuf message that is still read or written.
pub const DEPTH_MAX: usize = 100;
/// Largest protobuf message, in bytes, that is still read.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;
