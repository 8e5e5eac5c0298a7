//! The HTTP endpoints beside gRPC (etcd `server/etcdserver/api/etcdhttp/`).

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    context::Context,
    downgrade, exposition, health, metrics,
    version::{CLUSTER_VERSION, SERVER_VERSION},
};

/// Everything that is no gRPC.
pub(crate) fn routes(context: Context) -> Router {
    let told = Router::new().route("/version", get(version)).with_state(context.clone());
    metric_routes(context).merge(told)
}

/// What `--listen-metrics-urls` serves: metrics and health.
pub(crate) fn metric_routes(context: Context) -> Router {
    let metrics = Router::new().route("/metrics", get(show_metrics)).with_state(context.clone());
    metrics.merge(health::routes(context))
}

/// The answer to a path that is not there.
pub(crate) async fn not_found() -> Response {
    health::plain_error(StatusCode::NOT_FOUND, "404 page not found")
}

async fn version(State(context): State<Context>) -> Response {
    let view = context.member.keyspace().view();
    let cluster = downgrade::cluster_version(&view).unwrap_or_else(|_| CLUSTER_VERSION.to_owned());
    let kind = HeaderValue::from_static("application/json");
    // In etcd's order of fields.
    let text =
        format!("{{\"etcdserver\":\"{SERVER_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{cluster}\"}}");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn show_metrics(State(context): State<Context>) -> Response {
    let kind = HeaderValue::from_static(exposition::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], metrics::render(&context).await).into_response()
}
