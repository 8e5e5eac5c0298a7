//! The way of every request: identify, authenticate, authorize, bound, dispatch, count.

use crate::app::App;
use crate::handlers::{self, Call};
use crate::http::{Peer, Reply, status_reply, status_reply_to};
use crate::{authn, nonresource};
use ::http::header::ACCEPT;
use ::http::{HeaderName, HeaderValue, Request};
use futures::FutureExt as _;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;
use xebec_api::Status;
use xebec_apiserver_core::request::{Query, RequestInfo, Verb};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest audit id taken over from a client, in bytes.
const AUDIT_ID_BYTES_MAX: usize = 64;
/// Paths that answer anybody, so that probes work before the policy is there (upstream's `--authorization-always-allow-paths`).
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Answers one request, whatever happens.
pub async fn handle(app: Arc<App>, peer: Arc<Peer>, request: Request<Incoming>) -> Reply {
    let started = Instant::now();
    let audit_id = audit_id(&request);
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let path = decoded(request.uri().path());
    let info = RequestInfo::new(request.method().as_str(), &path, &query);
    let verb = if info.is_resource { info.verb.as_str() } else { "" };
    let resource = if info.subresource.is_empty() {
        info.resource.clone()
    } else {
        format!("{}/{}", info.resource, info.subresource)
    };
    let span = tracing::debug_span!("request", method = %request.method(), path, audit_id, peer = %peer.address);
    let answered = AssertUnwindSafe(answer(Arc::clone(&app), peer, request, info, query)).catch_unwind();
    let mut reply = match answered.instrument(span.clone()).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(status)) => {
            span.in_scope(|| tracing::debug!(code = status.code, message = status.message, "refused"));
            status_reply_to(&status, &accept)
        }
        Err(_) => {
            span.in_scope(|| tracing::error!("the handler panicked"));
            status_reply(&Status::internal_error("the request could not be handled"))
        }
    };
    if let Ok(value) = HeaderValue::from_str(&audit_id) {
        reply.headers_mut().insert(AUDIT_ID, value);
    }
    let code = reply.status().as_u16();
    // Unknown resources must not grow the metrics.
    let counted = if code == 404 && verb.is_empty() { "" } else { resource.as_str() };
    app.metrics.observe(verb, counted, code, started.elapsed());
    span.in_scope(|| tracing::debug!(code, took = ?started.elapsed(), "answered"));
    reply
}

async fn answer(
    app: Arc<App>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
    info: RequestInfo,
    query: Query,
) -> Result<Reply, Status> {
    if OPEN_PATHS
        .iter()
        .any(|open| info.path == *open || info.path.strip_prefix(open).is_some_and(|rest| rest.starts_with('/')))
    {
        return Ok(nonresource::health(&app, &info.path, &query).await);
    }
    let user = app.authenticator.authenticate(&peer, request.headers()).await?;
    let user = authn::impersonate(user, request.headers(), &app.authorizer)?;
    if let Some(election) = nonresource::election_of(&info.path) {
        // Elections are authorized as what they stand for: changing the mirror Lease.
        return nonresource::leadership(&app, &user, request.method(), election, &query);
    }
    app.authorizer.check(&user, &info)?;
    let long_running = long_running(&info, &query);
    let reads = matches!(info.verb, Verb::Get | Verb::List | Verb::Watch) || !info.is_resource;
    let _place = if long_running { None } else { Some(app.inflight.enter(reads)?) };
    if !info.is_resource {
        return nonresource::serve(&app, &request, &info).await;
    }
    handlers::dispatch(Call::new(app, user, info, query, &request)?, request).await
}

fn long_running(info: &RequestInfo, query: &Query) -> bool {
    info.verb == Verb::Watch
        || matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy")
        || (info.subresource == "log" && query.flag("follow"))
}

fn audit_id(request: &Request<Incoming>) -> String {
    let given = request.headers().get(AUDIT_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| !id.is_empty() && id.len() <= AUDIT_ID_BYTES_MAX) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

/// The path with its percent escapes resolved.
fn decoded(path: &str) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    let escaped_plus = path.replace('+', "%2B").replace('&', "%26");
    Query::parse(&format!("p={escaped_plus}")).get("p").unwrap_or(path).to_owned()
}
