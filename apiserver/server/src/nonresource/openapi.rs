//! /openapi/v2 and /openapi/v3. Documents are made when asked for, since clients keep them and memory is dear.

use super::GIT_VERSION;
use crate::http::{Reply, compressed, json_reply};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use xebec_api::Status;
use xebec_apiserver_core::openapi;

/// What a client may keep a document for: its URL names its hash.
const IMMUTABLE: &str = "public, immutable, max-age=31536000";

/// `/openapi/v2`, in JSON only.
pub async fn v2(headers: &HeaderMap) -> Result<Reply, Status> {
    accepts_json(headers)?;
    document(headers, "v2", || Some(openapi::v2_document())).await
}

/// `/openapi/v3`.
pub fn v3_index() -> Reply {
    let paths: Vec<(String, String)> =
        openapi::v3_paths().into_iter().map(|path| (hash(&path), path)).map(|(hash, path)| (path, hash)).collect();
    let index = openapi::v3_index(paths.iter().map(|(path, hash)| (path.as_str(), hash.as_str())));
    json_reply(StatusCode::OK, &index)
}

/// `/openapi/v3/{path}`.
pub async fn v3(headers: &HeaderMap, path: &str) -> Result<Reply, Status> {
    accepts_json(headers)?;
    let wanted = path.to_owned();
    document(headers, path, move || openapi::v3_document(&wanted)).await
}

async fn document(
    headers: &HeaderMap,
    path: &str,
    make: impl FnOnce() -> Option<Value> + Send + 'static,
) -> Result<Reply, Status> {
    let tag = format!("\"{}\"", hash(path));
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        let mut reply = json_reply(StatusCode::NOT_MODIFIED, &Value::Null);
        *reply.body_mut() = crate::http::empty_body();
        return Ok(reply);
    }
    let made = tokio::task::spawn_blocking(move || make().map(|value| Bytes::from(value.to_string()))).await;
    let bytes = made.map_err(|error| Status::internal_error(&error.to_string()))?.ok_or_else(Status::path_not_found)?;
    let mut reply = compressed(headers, "application/json", bytes);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        reply.headers_mut().insert(ETAG, tag);
    }
    Ok(reply)
}

/// Documents change with the program only.
fn hash(path: &str) -> String {
    let digest = Sha256::digest(format!("{GIT_VERSION} {} {path}", env!("CARGO_PKG_VERSION")));
    digest.iter().take(16).map(|byte| format!("{byte:02X}")).collect()
}

fn accepts_json(headers: &HeaderMap) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.is_empty() || accept.contains("json") || accept.contains("*/*") {
        return Ok(());
    }
    Err(Status::not_acceptable(&["application/json"]))
}
