//! Calls whose requests or responses are streams: JSON values one after the other, a line each on the way back.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use bytes::{Buf, BytesMut};
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde::de::IgnoredAny;
use tonic::Status;

use super::{
    Gateway,
    call::respond,
    codec::{self, Frames},
    failure::{Failure, http_code},
};

/// JSON values out of a request's body, which may come in any pieces.
struct Values {
    body: Body,
    buffered: BytesMut,
    bytes_max: usize,
    kind: MessageDescriptor,
    is_over: bool,
}

impl Values {
    async fn next(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.is_over {
                return match self.buffered.iter().all(u8::is_ascii_whitespace) {
                    true => Ok(None),
                    false => Err(Failure(Status::invalid_argument("unexpected EOF"))),
                };
            }
            if self.buffered.len() > self.bytes_max {
                return Err(Failure(crate::status::request_too_large()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffered.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure(Status::cancelled(error.to_string()))),
                None => self.is_over = true,
            }
        }
    }

    fn take(&mut self) -> Result<Option<DynamicMessage>, Failure> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffered).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let length = values.byte_offset();
                let message = codec::parse(&self.kind, &self.buffered[..length])?;
                self.buffered.advance(length);
                Ok(Some(message))
            }
            Some(Err(error)) if !error.is_eof() => Err(Failure(Status::invalid_argument(error.to_string()))),
            Some(Err(_)) | None => Ok(None),
        }
    }
}

/// The requests of a stream as gRPC frames. What comes behind a malformed one is not sent.
fn requests(first: Bytes, values: Values) -> Body {
    let rest = stream::unfold(values, |mut values| async move {
        let framed = match values.next().await {
            Ok(Some(message)) => codec::frame(&message),
            Ok(None) => return None,
            Err(failure) => Err(failure),
        };
        match framed {
            Ok(framed) => Some((framed, values)),
            Err(failure) => {
                tracing::debug!(status = %failure.0, "a stream of JSON requests ends early");
                None
            }
        }
    });
    let frames = stream::iter([first]).chain(rest).map(|framed| Ok::<_, Status>(Frame::data(framed)));
    Body::new(StreamBody::new(frames))
}

pub(super) async fn stream(
    gateway: &Gateway,
    method: &MethodDescriptor,
    request: Request,
    is_client_streaming: bool,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let body = if is_client_streaming {
        let (bytes_max, kind) = (gateway.json_bytes_max, method.input());
        let mut values = Values { body, buffered: BytesMut::new(), bytes_max, kind, is_over: false };
        match values.next().await? {
            Some(first) => requests(codec::frame(&first)?, values),
            None => Body::empty(),
        }
    } else {
        Body::from(codec::frame(&gateway.read_message(method, body).await?)?)
    };
    let mut frames = gateway.call(method, &head.headers, body).await?;
    // As in grpc-gateway, the head waits for the first message: an error before it still has a code of its own.
    match frames.next().await {
        Ok(first) => Ok(respond(lines(first, frames))),
        Err(failure) => {
            let mut response = respond(Body::from(failure.line()));
            *response.status_mut() = http_code(failure.0.code());
            Ok(response)
        }
    }
}

/// `{"result":...}` and a newline.
fn line(message: &DynamicMessage) -> Result<Bytes, Failure> {
    let mut line = b"{\"result\":".to_vec();
    codec::print(message, &mut line)?;
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// The first message and all that follow, and the error at the end if there is one.
fn lines(first: Option<DynamicMessage>, frames: Frames) -> Body {
    let is_open = first.is_some();
    let first = stream::iter(first).map(|message| line(&message).unwrap_or_else(|failure| failure.line().into()));
    let rest = stream::unfold((frames, is_open), |(mut frames, is_open)| async move {
        if !is_open {
            return None;
        }
        let text = match frames.next().await {
            Ok(Some(message)) => line(&message),
            Ok(None) => return None,
            Err(failure) => Err(failure),
        };
        Some(match text {
            Ok(text) => (text, (frames, true)),
            Err(failure) => (failure.line().into(), (frames, false)),
        })
    });
    let frames = first.chain(rest).map(|text| Ok::<_, std::convert::Infallible>(Frame::data(text)));
    Body::new(StreamBody::new(frames))
}
