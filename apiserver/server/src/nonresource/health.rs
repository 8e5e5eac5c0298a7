//! /healthz, /livez, /readyz.

use crate::app::App;
use crate::http::{Reply, text_reply};
use http::StatusCode;
use std::time::Duration;
use xebec_apiserver_core::request::Query;

/// Time the store may take to answer a probe.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a probe. Ready means: the store answers, the bootstrap policy is there, and the server is not stopping.
pub async fn health(app: &App, path: &str, query: &Query) -> Reply {
    let mut checks = vec![("ping", Ok(()))];
    let probe = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if probe != "livez" {
        let answer = tokio::time::timeout(STORE_TIMEOUT, app.objects.store.current_revision()).await;
        checks.push(("etcd", if matches!(answer, Ok(Ok(_))) { Ok(()) } else { Err("the store does not answer") }));
    }
    if probe == "readyz" {
        checks.push((
            "poststarthook/rbac/bootstrap-roles",
            if app.bootstrapped() { Ok(()) } else { Err("not finished") },
        ));
        checks.push(("shutdown", if app.stop.is_cancelled() { Err("process is shutting down") } else { Ok(()) }));
    }
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut text = String::new();
    for (name, result) in &checks {
        match result {
            Ok(()) => text += &format!("[+]{name} ok\n"),
            Err(why) => text += &format!("[-]{name} failed: {why}\n"),
        }
    }
    if failed {
        return text_reply(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{probe} check failed\n"));
    }
    if query.get("verbose").is_some() {
        return text_reply(StatusCode::OK, format!("{text}{probe} check passed\n"));
    }
    text_reply(StatusCode::OK, "ok")
}
