//! Paths that are no resources: health, metrics, version, discovery, OpenAPI, elections.

mod discovery;
mod health;
mod leaderships;
mod openapi;

pub use health::health;
pub use leaderships::{election_of, leadership};

use crate::app::App;
use crate::http::{Reply, json_reply, text_reply};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::sync::Arc;
use xebec_api::Status;
use xebec_apiserver_core::request::RequestInfo;

/// The version of Kubernetes that is served.
const MINOR: &str = "35";
pub(crate) const GIT_VERSION: &str = "v1.35.0+xebec";
/// Paths listed at the root.
const ROOT_PATHS: [&str; 14] = [
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

/// Serves an authorized request for a path.
pub async fn serve(app: &Arc<App>, request: &Request<Incoming>, info: &RequestInfo) -> Result<Reply, Status> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Status::method_not_allowed());
    }
    let headers = request.headers();
    let path = info.path.trim_end_matches('/');
    match path {
        "" => Ok(root()),
        "/version" => Ok(version()),
        "/metrics" => metrics(app),
        "/api" | "/apis" => discovery::groups(path, headers),
        "/openapi/v2" => openapi::v2(headers).await,
        "/openapi/v3" => Ok(openapi::v3_index()),
        _ => {
            if let Some(group_version) = path.strip_prefix("/openapi/v3/") {
                return openapi::v3(headers, group_version).await;
            }
            discovery::resources_of(path)
        }
    }
}

fn root() -> Reply {
    let mut paths: Vec<String> = ROOT_PATHS.iter().map(|path| (*path).to_owned()).collect();
    paths.retain(|path| !path.contains("openid"));
    paths.extend(discovery::paths());
    paths.sort();
    json_reply(StatusCode::OK, &json!({"paths": paths}))
}

fn version() -> Reply {
    let version = json!({
        "major": "1", "minor": MINOR, "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-11-21T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    });
    json_reply(StatusCode::OK, &version)
}

fn metrics(app: &App) -> Result<Reply, Status> {
    let text =
        app.metrics.render(app.objects.caches.sizes()).map_err(|error| Status::internal_error(&error.to_string()))?;
    Ok(text_reply(StatusCode::OK, text))
}
