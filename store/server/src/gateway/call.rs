//! Calls with one request and one response.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::Status;
use tower::ServiceExt;

use super::{
    Gateway,
    codec::{self, Frames},
    failure::Failure,
};

/// Headers that begin so become metadata without the prefix (grpc-gateway `runtime.MetadataHeaderPrefix`).
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The gRPC headers for a client's HTTP headers. `Authorization` is etcd's token.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX)
            && let Ok(name) = HeaderName::try_from(name)
        {
            metadata.append(name, value.clone());
        }
    }
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        metadata.insert(header::AUTHORIZATION, token.clone());
        metadata.insert("token", token.clone());
    }
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}

impl Gateway {
    /// Calls a method. What the connection says of the client is left behind on purpose: as in etcd, a certificate's
    /// common name does not count here.
    pub(super) async fn call(
        &self,
        method: &MethodDescriptor,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Frames, Failure> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .body(body)
            .map_err(|error| Failure(Status::internal(error.to_string())))?;
        *request.headers_mut() = metadata(headers);
        let response = match self.services.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        Ok(Frames::new(response, method.output()))
    }

    /// One message in the whole body; an empty one is a message without fields.
    pub(super) async fn read_message(&self, method: &MethodDescriptor, body: Body) -> Result<DynamicMessage, Failure> {
        let read = Limited::new(body, self.json_bytes_max).collect().await;
        let json = read.map_err(|error| {
            Failure(match error.is::<LengthLimitError>() {
                true => crate::status::request_too_large(),
                false => Status::invalid_argument(error.to_string()),
            })
        })?;
        let json = json.to_bytes();
        match json.iter().all(u8::is_ascii_whitespace) {
            true => Ok(DynamicMessage::new(method.input())),
            false => codec::parse(&method.input(), &json),
        }
    }
}

/// The response's head, as grpc-gateway writes it.
pub(super) fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    response
}

pub(super) async fn unary(gateway: &Gateway, method: &MethodDescriptor, request: Request) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let message = gateway.read_message(method, body).await?;
    let framed = codec::frame(&message)?;
    let mut frames = gateway.call(method, &head.headers, Body::from(framed)).await?;
    let message = frames.next().await?.ok_or_else(|| Failure(Status::internal("the call had no response")))?;
    let mut text = Vec::new();
    codec::print(&message, &mut text)?;
    // The status comes behind the message.
    frames.next().await?;
    // The response keeps its share of the budget until its JSON is sent.
    let held = Full::new(Bytes::from(text)).map_frame(move |frame| {
        let _held = &frames;
        frame
    });
    Ok(respond(Body::new(held)))
}
