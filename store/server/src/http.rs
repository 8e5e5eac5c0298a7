//! The HTTP endpoints beside gRPC on the client port (etcd `server/etcdserver/api/etcdhttp/`).

use std::{collections::HashMap, fmt::Write, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::time::timeout;
use xebec_store_core::{AlarmKind, ReadView};

use crate::{
    context::Context,
    maintenance::{CLUSTER_VERSION, VERSION},
    metrics,
};

/// How long a health check may wait for a linearizable read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The routes, to merge with the gRPC services.
pub(crate) fn routes(context: Context) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/healthz", get(livez))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/version", get(version))
        .with_state(context)
}

type Params = Query<HashMap<String, String>>;

async fn version() -> impl IntoResponse {
    Json(json!({ "etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION, "storage": CLUSTER_VERSION }))
}

async fn show_metrics(State(context): State<Context>) -> Response {
    match metrics::render(&context) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn can_read(context: &Context, serializable: bool) -> bool {
    matches!(timeout(READ_TIMEOUT, context.view(serializable)).await, Ok(Ok(_)))
}

fn has_alarm(context: &Context, kind: AlarmKind) -> bool {
    context.member.keyspace().view().alarms().iter().any(|alarm| alarm.kind == kind)
}

async fn health(State(context): State<Context>, Query(params): Params) -> Response {
    let excluded = params.get("exclude").map_or("", String::as_str);
    let serializable = params.get("serializable").is_some_and(|value| value == "true");
    let reason = if excluded != "NOSPACE" && has_alarm(&context, AlarmKind::NoSpace) {
        "ALARM NOSPACE"
    } else if excluded != "CORRUPT" && has_alarm(&context, AlarmKind::Corrupt) {
        "ALARM CORRUPT"
    } else if !serializable && context.member.leaders().borrow().is_none() {
        "RAFT NO LEADER"
    } else if !can_read(&context, serializable).await {
        "RANGE ERROR"
    } else {
        ""
    };
    let healthy = reason.is_empty();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "health": healthy.to_string(), "reason": reason }))).into_response()
}

async fn livez(State(context): State<Context>, Query(params): Params) -> Response {
    let checks = vec![("serializable_read", can_read(&context, true).await)];
    report(checks, &params)
}

async fn readyz(State(context): State<Context>, Query(params): Params) -> Response {
    let checks = vec![
        ("data_corruption", !has_alarm(&context, AlarmKind::Corrupt)),
        ("serializable_read", can_read(&context, true).await),
        ("linearizable_read", can_read(&context, false).await),
        ("non_learner", !context.member.status().is_learner),
    ];
    report(checks, &params)
}

fn report(checks: Vec<(&str, bool)>, params: &HashMap<String, String>) -> Response {
    let excluded = params.get("exclude").map_or("", String::as_str);
    let mut text = String::new();
    let mut passed = true;
    for (name, ok) in checks.into_iter().filter(|(name, _)| *name != excluded) {
        passed &= ok;
        let line = if ok { format!("[+]{name} ok\n") } else { format!("[-]{name} failed\n") };
        // Writing to a String cannot fail.
        text.write_str(&line).unwrap_or_default();
    }
    if passed && !params.contains_key("verbose") {
        return (StatusCode::OK, "ok\n").into_response();
    }
    text.push_str(if passed { "ok\n" } else { "failed\n" });
    let code = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, text).into_response()
}
