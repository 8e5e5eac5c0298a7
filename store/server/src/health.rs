//! `/health`, `/livez`, `/readyz` and their single checks (etcd `server/etcdserver/api/etcdhttp/health.go`).

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::time::timeout;
use xebec_proto::etcdserverpb::AlarmType;
use xebec_store_core::{AlarmKind, KeyRange, ReadView};
use xebec_store_raft::REQUEST_TIMEOUT;

use crate::{
    context::{Context, blocking},
    status::{self, IntoStatus},
};

/// What is asked of a member before it counts as alive or ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// A set of checks: `/livez` and `/readyz`.
#[derive(Clone, Copy, Debug)]
struct Probe {
    kind: &'static str,
    checks: &'static [Check],
}

const LIVEZ: Probe = Probe { kind: "livez", checks: &[Check::SerializableRead] };
const READYZ: Probe = Probe {
    kind: "readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
};

/// The routes.
pub(crate) fn routes(context: Context) -> Router {
    let mut router = Router::new().route("/health", get(health).fallback(not_allowed));
    // `/healthz` is Kubernetes' name for it.
    for (path, probe) in [("/healthz", LIVEZ), ("/livez", LIVEZ), ("/readyz", READYZ)] {
        let handler = move |context: State<Context>, query: RawQuery| probe_all(probe, context, query);
        router = router.route(path, get(handler).fallback(not_allowed));
    }
    for probe in [LIVEZ, READYZ] {
        for check in probe.checks {
            let path = format!("/{}/{}", probe.kind, check.name());
            let handler = move |State(context): State<Context>, RawQuery(query): RawQuery| async move {
                report(&context, probe, &[*check], is_verbose(query.as_deref())).await
            };
            router = router.route(&path, get(handler).fallback(not_allowed));
        }
    }
    router.with_state(context)
}

/// As Go's `http.Error` answers.
pub(crate) fn plain_error(code: StatusCode, text: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (code, headers, format!("{text}\n")).into_response()
}

async fn not_allowed() -> Response {
    let mut response = plain_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The values of a query parameter that may come several times.
fn values<'q>(query: Option<&'q str>, name: &'q str) -> impl Iterator<Item = &'q str> {
    query.unwrap_or_default().split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn is_verbose(query: Option<&str>) -> bool {
    values(query, "verbose").next().is_some()
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => AlarmType::Nospace.as_str_name(),
        AlarmKind::Corrupt => AlarmType::Corrupt.as_str_name(),
    }
}

/// Reads a key, as a client would.
async fn read(context: &Context, serializable: bool) -> Result<(), String> {
    let reading = async {
        let view = context.view(serializable).await?;
        let nothing = KeyRange::Key(bytes::Bytes::from_static(b"\0"));
        blocking(move || view.count(&nothing, view.current_revision()).map_err(IntoStatus::into_status)).await
    };
    match timeout(REQUEST_TIMEOUT, reading).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(status::timed_out().message().to_owned()),
    }
}

async fn health(State(context): State<Context>, RawQuery(query): RawQuery) -> Response {
    let excluded: Vec<&str> = values(query.as_deref(), "exclude").collect();
    let serializable = values(query.as_deref(), "serializable").next() == Some("true");
    let alarms = context.member.keyspace().view().alarms();
    let alarm = alarms.iter().map(|alarm| alarm_name(alarm.kind)).find(|name| !excluded.contains(name));
    let failed = if let Some(alarm) = alarm {
        Some(format!("ALARM {alarm}"))
    } else if !serializable && context.member.leaders().borrow().is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        read(&context, serializable).await.err().map(|reason| format!("RANGE ERROR:{reason}"))
    };
    let text = json!({ "health": failed.is_none().to_string(), "reason": failed.clone().unwrap_or_default() });
    match failed {
        None => {
            context.metrics.health_success.inc();
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text.to_string()).into_response()
        }
        Some(reason) => {
            context.metrics.health_failures.inc();
            tracing::warn!(reason, "serving /health false");
            plain_error(StatusCode::SERVICE_UNAVAILABLE, &text.to_string())
        }
    }
}

async fn probe_all(probe: Probe, State(context): State<Context>, RawQuery(query): RawQuery) -> Response {
    let excluded: Vec<&str> = values(query.as_deref(), "exclude").collect();
    let checks: Vec<Check> = probe.checks.iter().copied().filter(|check| !excluded.contains(&check.name())).collect();
    report(&context, probe, &checks, is_verbose(query.as_deref())).await
}

async fn report(context: &Context, probe: Probe, checks: &[Check], verbose: bool) -> Response {
    let (mut lines, mut passed) = (String::new(), true);
    for check in checks {
        let result = check.run(context).await;
        let mut seen = context.metrics.checks.lock();
        let entry = seen.entry((probe.kind, check.name())).or_default();
        entry.0 = result.is_ok();
        match result {
            Ok(()) => {
                entry.1 += 1;
                lines.push_str(&format!("[+]{} ok\n", check.name()));
            }
            Err(reason) => {
                entry.2 += 1;
                passed = false;
                lines.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
            }
        }
    }
    if !passed {
        tracing::warn!(probe = probe.kind, checks = lines, "a health check failed");
        return plain_error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let shown = if verbose { lines } else { String::new() };
    (headers, format!("{shown}ok\n")).into_response()
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, context: &Context) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let alarms = context.member.keyspace().view().alarms();
                match alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Self::SerializableRead => read(context, true).await,
            Self::LinearizableRead => read(context, false).await,
            Self::NonLearner => match context.member.status().is_learner {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_may_come_several_times() {
        let query = Some("verbose&exclude=NOSPACE&exclude=CORRUPT&x=1");
        assert_eq!(values(query, "exclude").collect::<Vec<_>>(), ["NOSPACE", "CORRUPT"]);
        assert!(is_verbose(query) && !is_verbose(None));
    }
}
