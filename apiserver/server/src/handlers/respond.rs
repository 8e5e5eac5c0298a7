//! Answers in the form the client accepts: JSON, YAML or protobuf; the object itself, a Table, or its metadata.

use super::read::Listed;
use super::write::Written;
use super::{Call, tables};
use crate::cache::Entry;
use crate::http::{Reply, bytes_reply, compressed, json_reply, status_reply, stream_body};
use crate::registry::Served;
use crate::watch::{FrameEncoder, Framing};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xebec_api::{GroupVersionKind, Status, codec, meta};
use xebec_apiserver_core::request::{MediaType, Transform, Wanted};

const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// An object as a reply.
pub fn object(call: &Call, code: StatusCode, object: &Value) -> Result<Reply, Status> {
    match call.wanted.transform {
        Transform::None => value(call, code, object),
        Transform::Table { version } => {
            let metadata = json!({"resourceVersion": meta::resource_version(object)});
            // A subresource may be exchanged as another kind: a Scale.
            let gvk = meta::gvk(object).unwrap_or_else(|_| call.served.row.gvk.clone());
            let table = tables::table(&gvk, std::slice::from_ref(object), metadata, version, &call.query, true);
            value(call, code, &table)
        }
        Transform::PartialMetadata { version } => value(call, code, &partial(object, version)),
    }
}

/// What a write answers.
pub fn written(call: &Call, written: &Written, warnings: &[String]) -> Result<Reply, Status> {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut reply = object(call, code, &written.object)?;
    warn(&mut reply, warnings);
    Ok(reply)
}

/// Adds warnings (RFC 9111 code 299, as upstream).
pub fn warn(reply: &mut Reply, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            reply.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// A value of whatever kind in the wanted encoding.
pub fn value(call: &Call, code: StatusCode, value: &Value) -> Result<Reply, Status> {
    let failed = |error: &dyn std::fmt::Display| Status::internal_error(&error.to_string());
    match call.wanted.media {
        MediaType::Json if call.wanted.pretty => {
            let text = serde_json::to_string_pretty(value).map_err(|error| failed(&error))?;
            Ok(bytes_reply(code, "application/json", format!("{text}\n")))
        }
        MediaType::Json => Ok(json_reply(code, value)),
        MediaType::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|error| failed(&error))?;
            Ok(bytes_reply(code, "application/yaml", text))
        }
        MediaType::Protobuf => {
            let gvk = meta::gvk(value).map_err(|error| failed(&error))?;
            match codec::encode_envelope(&gvk, value) {
                Ok(bytes) => Ok(bytes_reply(code, MediaType::Protobuf.as_str(), bytes)),
                // Custom kinds have no protobuf; a client that lists JSON behind it gets that.
                Err(_) if call.accepts_json => Ok(json_reply(code, value)),
                Err(error) => Err(Status::not_acceptable(&["application/json", "application/yaml"])
                    .with_cause(xebec_api::status::Cause { message: error.to_string(), ..Default::default() })),
            }
        }
    }
}

/// A cached or stored object as a reply; its bytes are sent as they are where possible.
pub fn entry(call: &Call, entry: &Entry) -> Result<Reply, Status> {
    if matches!(call.wanted, Wanted { transform: Transform::None, pretty: false, .. }) && !call.served.converts() {
        match call.wanted.media {
            MediaType::Json => {
                return Ok(compressed(
                    &call.headers,
                    "application/json",
                    typed_json(&call.served.row.gvk, &entry.json),
                ));
            }
            MediaType::Protobuf => {
                if let Some(bytes) = protobuf(&call.served, entry) {
                    return Ok(compressed(&call.headers, MediaType::Protobuf.as_str(), bytes));
                }
            }
            MediaType::Yaml => {}
        }
    }
    object(call, StatusCode::OK, &call.served.typed(entry.value()))
}

/// A collection as a reply: a concatenation of what is encoded already.
pub fn list(call: &Call, listed: &Listed) -> Result<Reply, Status> {
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if !listed.rest.is_empty() {
        metadata["continue"] = Value::from(listed.rest.as_str());
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = Value::from(remaining);
        }
    }
    let objects = || listed.entries.iter().map(|entry| call.served.typed(entry.value())).collect::<Vec<_>>();
    match (call.wanted.transform, call.wanted.media) {
        (Transform::Table { version }, _) => {
            let table = tables::table(&call.served.row.gvk, &objects(), metadata, version, &call.query, true);
            value(call, StatusCode::OK, &table)
        }
        (Transform::PartialMetadata { version }, _) => {
            let items: Vec<Value> = objects().iter().map(|object| partial(object, version)).collect();
            let list = json!({"apiVersion": format!("meta.k8s.io/{version}"), "kind": "PartialObjectMetadataList",
                "metadata": metadata, "items": items});
            value(call, StatusCode::OK, &list)
        }
        (Transform::None, MediaType::Json) if !call.wanted.pretty => {
            Ok(compressed(&call.headers, "application/json", json_list(call, &metadata, listed)))
        }
        (Transform::None, MediaType::Protobuf) => protobuf_list(call, &metadata, listed),
        (Transform::None, _) => {
            let items = objects();
            let gvk = list_gvk(call);
            let list = json!({"apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": metadata, "items": items});
            value(call, StatusCode::OK, &list)
        }
    }
}

fn json_list(call: &Call, metadata: &Value, listed: &Listed) -> Bytes {
    let gvk = list_gvk(call);
    let bytes: usize = listed.entries.iter().map(|entry| entry.json.len() + 1).sum();
    let mut out = BytesMut::with_capacity(bytes + 256);
    let head = json!({"apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": metadata}).to_string();
    out.put_slice(&head.as_bytes()[..head.len() - 1]);
    out.put_slice(b",\"items\":[");
    for (index, entry) in listed.entries.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if call.served.converts() {
            out.put_slice(call.served.typed(entry.value()).to_string().as_bytes());
        } else {
            out.put_slice(&entry.json);
        }
    }
    out.put_slice(b"]}\n");
    out.freeze()
}

fn protobuf_list(call: &Call, metadata: &Value, listed: &Listed) -> Result<Reply, Status> {
    let encoded: Option<Vec<Bytes>> = listed.entries.iter().map(|entry| protobuf(&call.served, entry)).collect();
    let encoded = encoded.ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml"]))?;
    let bytes = codec::encode_list(&list_gvk(call), metadata, encoded.iter().map(AsRef::as_ref))
        .map_err(|error| Status::internal_error(&error.to_string()))?;
    Ok(compressed(&call.headers, MediaType::Protobuf.as_str(), Bytes::from(bytes)))
}

fn list_gvk(call: &Call) -> GroupVersionKind {
    let gvk = &call.served.row.gvk;
    GroupVersionKind { kind: call.served.list_kind.clone(), ..gvk.clone() }
}

/// The encoder of a watch, and its Content-Type.
pub fn watch_encoder(call: &Call) -> Result<(&'static str, Framing, FrameEncoder), Status> {
    let served = Arc::clone(&call.served);
    let gvk = served.row.gvk.clone();
    let json_status: crate::watch::RenderStatus = Arc::new(|status| Bytes::from(status.to_value().to_string()));
    let (content_type, framing, render): (_, _, crate::watch::Render) = match (call.wanted.transform, call.wanted.media)
    {
        (Transform::Table { version }, _) => {
            let query = call.query.clone();
            let first = AtomicBool::new(true);
            let render = move |entry: &Entry| {
                let object = served.typed(entry.value());
                let metadata = json!({"resourceVersion": entry.revision.to_string()});
                let rows = if meta::name(&object).is_empty() { &[] } else { std::slice::from_ref(&object) };
                let columns = first.swap(false, Ordering::Relaxed);
                let table = tables::table(&served.row.gvk, rows, metadata, version, &query, columns);
                Bytes::from(table.to_string())
            };
            ("application/json", Framing::JsonLines, Arc::new(render))
        }
        (Transform::PartialMetadata { version }, MediaType::Json | MediaType::Yaml) => {
            let render = move |entry: &Entry| Bytes::from(partial(&served.typed(entry.value()), version).to_string());
            ("application/json", Framing::JsonLines, Arc::new(render))
        }
        (Transform::PartialMetadata { version }, MediaType::Protobuf) => {
            let render = move |entry: &Entry| {
                let object = partial(&served.typed(entry.value()), version);
                enveloped(&object)
            };
            (PROTOBUF_WATCH, Framing::Protobuf, Arc::new(render))
        }
        (Transform::None, MediaType::Protobuf) if call.served.has_protobuf => {
            let render = move |entry: &Entry| protobuf(&served, entry).unwrap_or_default();
            (PROTOBUF_WATCH, Framing::Protobuf, Arc::new(render))
        }
        (Transform::None, _) => {
            let render = move |entry: &Entry| {
                if served.converts() {
                    return Bytes::from(served.typed(entry.value()).to_string());
                }
                typed_json(&gvk, &entry.json)
            };
            ("application/json", Framing::JsonLines, Arc::new(render))
        }
    };
    let render_status = match framing {
        Framing::JsonLines => json_status,
        Framing::Protobuf => Arc::new(|status: &Status| enveloped(&status.to_value())),
    };
    Ok((content_type, framing, FrameEncoder { framing, render, render_status }))
}

fn enveloped(value: &Value) -> Bytes {
    let encoded = meta::gvk(value).ok().and_then(|gvk| codec::encode_envelope(&gvk, value).ok());
    encoded.map(Bytes::from).unwrap_or_default()
}

/// The reply to a watch from too far in the past: a stream that says so and ends.
pub fn gone_watch(call: &Call, since: i64, oldest: i64) -> Reply {
    let status = Status::expired(format!("too old resource version: {since} ({oldest})"));
    match watch_encoder(call) {
        Ok((content_type, _, encoder)) => {
            let mut reply = bytes_reply(StatusCode::OK, content_type, Bytes::new());
            let frame = encoder.error_frame(&status);
            *reply.body_mut() = stream_body(futures::stream::once(async move { frame }));
            reply
        }
        Err(_) => status_reply(&status),
    }
}

/// JSON of an object with its type in front.
pub fn typed_json(gvk: &GroupVersionKind, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 96);
    out.put_slice(b"{\"apiVersion\":\"");
    out.put_slice(gvk.api_version().as_bytes());
    out.put_slice(b"\",\"kind\":\"");
    out.put_slice(gvk.kind.as_bytes());
    out.put_slice(b"\",");
    out.put_slice(body.strip_prefix(b"{").unwrap_or(body));
    out.freeze()
}

/// An entry in its envelope, in the version of `served`.
fn protobuf(served: &Served, entry: &Entry) -> Option<Bytes> {
    let gvk = &served.row.gvk;
    if *gvk != served.storage {
        // Shared bytes are of the stored version; others are rare enough to be made anew.
        return codec::encode_envelope(gvk, &served.typed(entry.value())).ok().map(Bytes::from);
    }
    entry.protobuf(|entry| {
        let patched = codec::set_resource_version(&entry.stored, entry.revision.unsigned_abs());
        let encoded = patched.or_else(|_| codec::encode_envelope(gvk, &served.typed(entry.value())));
        encoded.ok().map(Bytes::from)
    })
}

fn partial(object: &Value, version: &str) -> Value {
    json!({"apiVersion": format!("meta.k8s.io/{version}"), "kind": "PartialObjectMetadata",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({}))})
}
