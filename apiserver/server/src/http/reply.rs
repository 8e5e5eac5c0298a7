//! Replies and their bodies.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::convert::Infallible;
use std::io::Write as _;

/// Body of a reply.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// A reply.
pub type Reply = Response<Body>;

/// Bodies from this size on are compressed if the client likes (upstream's bound).
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// A body of these bytes.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// No body.
pub fn empty_body() -> Body {
    full_body(Bytes::new())
}

/// A body that goes on as long as the stream does.
pub fn stream_body(stream: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt as _;
    StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

/// A reply with these bytes.
pub fn bytes_reply(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full_body(bytes));
    *reply.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(content_type) {
        reply.headers_mut().insert(CONTENT_TYPE, value);
    }
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    reply
}

/// A reply in JSON.
pub fn json_reply(status: StatusCode, value: &serde_json::Value) -> Reply {
    bytes_reply(status, "application/json", value.to_string())
}

/// A reply in plain text.
pub fn text_reply(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    bytes_reply(status, "text/plain; charset=utf-8", text)
}

/// A 200 with these bytes, compressed if they are many and the client accepts gzip.
pub fn compressed(headers: &HeaderMap, content_type: &str, bytes: Bytes) -> Reply {
    let accepts = headers
        .get(http::header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|coding| coding.trim().starts_with("gzip")));
    if !accepts || bytes.len() < GZIP_BYTES_MIN {
        return bytes_reply(StatusCode::OK, content_type, bytes);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            let mut reply = bytes_reply(StatusCode::OK, content_type, packed);
            reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            reply.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            reply
        }
        Err(_) => bytes_reply(StatusCode::OK, content_type, bytes),
    }
}
