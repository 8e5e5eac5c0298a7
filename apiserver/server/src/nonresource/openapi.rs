//! /openapi/v2 and /openapi/v3.
use http::{HeaderMap, StatusCode};
use crate::http::Reply;
use xebec_api::Status;

pub fn v2(_headers: &HeaderMap) -> Result<Reply, Status> {
    Err(Status::path_not_found())
}

pub fn v3_index() -> Reply {
    crate::http::json_reply(StatusCode::OK, &serde_json::json!({"paths": {}}))
}

pub fn v3(_headers: &HeaderMap, _group_version: &str) -> Result<Reply, Status> {
    Err(Status::path_not_found())
}
