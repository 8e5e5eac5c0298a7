//! Between JSON, messages and gRPC's frames.

use axum::body::Bytes;
use bytes::{Buf, BufMut, BytesMut};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::Status;

use super::failure::Failure;

/// Flag and length before each message.
const FRAME_HEADER_BYTES: usize = 5;

/// Reads a message as protojson does: unknown fields are passed over, names are the proto's or camel case.
pub(super) fn parse(kind: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Failure> {
    let invalid = |error: serde_json::Error| Failure(Status::invalid_argument(error.to_string()));
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize_with_options(kind.clone(), &mut reader, &options).map_err(invalid)?;
    reader.end().map_err(invalid)?;
    Ok(message)
}

/// Writes a message as etcd configures protojson: the proto's names, nothing that has its default.
pub(super) fn print(message: &DynamicMessage, into: &mut Vec<u8>) -> Result<(), Failure> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let mut writer = serde_json::Serializer::new(into);
    message
        .serialize_with_options(&mut writer, &options)
        .map_err(|error| Failure(Status::internal(format!("cannot write JSON: {error}"))))
}

/// A message in a gRPC frame.
pub(super) fn frame(message: &DynamicMessage) -> Result<Bytes, Failure> {
    let length = message.encoded_len();
    let announced = u32::try_from(length).map_err(|_| Failure(crate::status::request_too_large()))?;
    let mut framed = BytesMut::with_capacity(FRAME_HEADER_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(announced);
    framed.extend_from_slice(&message.encode_to_vec());
    Ok(framed.freeze())
}

/// Messages out of a gRPC response's body.
pub(super) struct Frames {
    /// Kept until the messages are used up: it holds what the response holds.
    body: axum::body::Body,
    buffered: BytesMut,
    /// How the call ended, once that is known.
    status: Option<Status>,
    kind: MessageDescriptor,
}

impl Frames {
    pub fn new(response: axum::response::Response, kind: MessageDescriptor) -> Self {
        // An error without messages comes in the headers.
        let status = Status::from_header_map(response.headers());
        Self { body: response.into_body(), buffered: BytesMut::new(), status, kind }
    }

    /// The next message; `None` when the call has ended well.
    pub async fn next(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if let Some(status) = &self.status {
                return match status.code() {
                    tonic::Code::Ok => Ok(None),
                    _ => Err(Failure(status.clone())),
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffered.extend_from_slice(&data),
                    Err(frame) => {
                        self.status = frame.trailers_ref().and_then(Status::from_header_map);
                    }
                },
                Some(Err(error)) => self.status = Some(Status::unavailable(error.to_string())),
                None => self.status = Some(Status::internal("the call ended without a status")),
            }
        }
    }

    fn take(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        let Some(header) = self.buffered.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if self.buffered.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffered.advance(FRAME_HEADER_BYTES);
        let encoded = self.buffered.split_to(length).freeze();
        DynamicMessage::decode(self.kind.clone(), encoded)
            .map(Some)
            .map_err(|error| Failure(Status::internal(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    fn kind(name: &str) -> MessageDescriptor {
        let pool = DescriptorPool::decode(xebec_proto::FILE_DESCRIPTOR_SET).unwrap();
        pool.get_message_by_name(name).unwrap()
    }

    fn printed(name: &str, json: &str) -> String {
        let mut text = Vec::new();
        let message = parse(&kind(name), json.as_bytes()).unwrap_or_else(|failure| panic!("{}", failure.0));
        print(&message, &mut text).unwrap_or_else(|failure| panic!("{}", failure.0));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn json_is_read_and_written_as_etcd_does() {
        let range = |json: &str| printed("etcdserverpb.RangeRequest", json);
        assert_eq!(
            range(r#"{"key":"YQ==","rangeEnd":"AA==","limit":"5","sort_order":"DESCEND","sortTarget":3,"new":[1]}"#),
            r#"{"key":"YQ==","range_end":"AA==","limit":"5","sort_order":"DESCEND","sort_target":"MOD"}"#
        );
        assert_eq!(range(r#"{"limit":7,"keys_only":true,"count_only":false}"#), r#"{"limit":"7","keys_only":true}"#);
        assert_eq!(printed("etcdserverpb.LeaseGrantRequest", r#"{"TTL":"9","ID":-1}"#), r#"{"TTL":"9","ID":"-1"}"#);
        let txn = r#"{"compare":[{"target":"MOD","key":"YQ==","mod_revision":"0"}],"success":[{"request_put":{"key":"YQ=="}}]}"#;
        assert_eq!(printed("etcdserverpb.TxnRequest", txn), txn);
        for wrong in [r#"{"key":5}"#, "{bad", r#"{"key":"YQ=="} x"#] {
            assert!(parse(&kind("etcdserverpb.RangeRequest"), wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
