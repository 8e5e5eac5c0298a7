//! What happens around every gRPC call (etcd `server/etcdserver/api/v3rpc/interceptor.go`): it is counted, a client that
//! wants a leader is refused or sent away while there is none, and what a response holds is held until it is sent.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use http_body::Frame;
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use xebec_store_core::RequestError;

use crate::{
    context::Context,
    exposition::{CallDurations, Counter, Exposition},
    message_limit::LimitedMessages,
    range_read::HeldReservation,
    run::GRPC_OVERHEAD_BYTES,
    status::{self, IntoStatus},
};

/// Metadata with which a client refuses members that see no leader (etcd `rpctypes.MetadataRequireLeaderKey`).
const REQUIRE_LEADER_KEY: &str = "hasleader";
/// Election timeouts without a leader after which streams that require one end (etcd `maxNoLeaderCnt`).
const LEADERLESS_TIMEOUTS: u32 = 3;
/// Names of gRPC's codes by number, as grpc-ecosystem labels them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Calls of one method.
#[derive(Debug)]
struct Method {
    service: String,
    name: String,
    kind: &'static str,
    is_stream: bool,
    started: Counter,
    handled: [Counter; CODES.len()],
    took: CallDurations,
}

/// Calls by method, for all methods that the descriptors know.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    methods: BTreeMap<String, Arc<Method>>,
    sent_bytes: Counter,
}

/// Packages that are not spoken on the client port.
const OTHER_PACKAGES: [&str; 2] = ["xebec.peer", "runtime.v1"];

impl Calls {
    pub fn new() -> Self {
        let pool = DescriptorPool::decode(xebec_proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
        let methods = pool.services().filter(|service| {
            let name = service.full_name();
            !OTHER_PACKAGES.iter().any(|package| name.starts_with(package))
        });
        let methods = methods.flat_map(|service| service.methods().collect::<Vec<_>>()).map(|method| {
            let service = method.parent_service().full_name().to_owned();
            let path = format!("/{service}/{}", method.name());
            let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => "unary",
                (true, false) => "client_stream",
                (false, true) => "server_stream",
                (true, true) => "bidi_stream",
            };
            let counted = Method {
                service,
                name: method.name().to_owned(),
                kind,
                is_stream: kind != "unary",
                started: Counter::default(),
                handled: Default::default(),
                took: CallDurations::default(),
            };
            (path, Arc::new(counted))
        });
        Self { methods: methods.collect(), sent_bytes: Counter::default() }
    }

    /// What grpc-ecosystem's interceptors show; durations only if asked for, as etcd with `--metrics=extensive`.
    pub fn expose(&self, exposition: &mut Exposition, with_durations: bool) {
        let labels = |method: &Method| {
            [
                ("grpc_method", method.name.clone()),
                ("grpc_service", method.service.clone()),
                ("grpc_type", method.kind.into()),
            ]
        };
        let help = "Total number of RPCs completed on the server, regardless of success or failure.";
        exposition.family("grpc_server_handled_total", "counter", help);
        for method in self.methods.values() {
            for (code, handled) in CODES.iter().zip(&method.handled) {
                let [name, service, kind] = labels(method);
                let labels = [("grpc_code", *code), (name.0, &name.1), (service.0, &service.1), (kind.0, &kind.1)];
                exposition.sample("grpc_server_handled_total", &labels, handled.get());
            }
        }
        exposition.family("grpc_server_started_total", "counter", "Total number of RPCs started on the server.");
        for method in self.methods.values() {
            let labels = labels(method);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            exposition.sample("grpc_server_started_total", &labels, method.started.get());
        }
        if with_durations {
            let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.";
            exposition.family("grpc_server_handling_seconds", "histogram", help);
            for method in self.methods.values() {
                let labels = labels(method);
                let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
                exposition.call_durations("grpc_server_handling_seconds", &labels, &method.took);
            }
        }
        let help = "The total number of bytes sent to grpc clients.";
        exposition.counter("etcd_network_client_grpc_sent_bytes_total", help, self.sent_bytes.get());
    }
}

/// One call, counted as handled when it ends, and as cancelled if its end is not seen.
struct Call {
    context: Context,
    method: Option<Arc<Method>>,
    begun: Instant,
    code: Code,
}

impl Call {
    fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(method) = &self.method {
            method.handled[self.code as usize].inc();
            method.took.observe(self.begun.elapsed());
        }
    }
}

/// Around every call of the client port's gRPC services.
pub(crate) async fn intercept(State(context): State<Context>, request: Request, next: Next) -> Response {
    let method = context.metrics.calls.methods.get(request.uri().path()).cloned();
    if let Some(method) = &method {
        method.started.inc();
    }
    let is_stream = method.as_ref().is_some_and(|method| method.is_stream);
    let mut call = Call { context: context.clone(), method, begun: Instant::now(), code: Code::Cancelled };
    let needs_leader = request.headers().get(REQUIRE_LEADER_KEY).is_some_and(|value| value == "true");
    if needs_leader && context.member.leaders().borrow().is_none() {
        call.code = Code::Unavailable;
        return status::no_leader().into_http();
    }
    let bytes_max = context.limits.request_bytes_max.saturating_add(GRPC_OVERHEAD_BYTES);
    let received = context.metrics.received_bytes.clone();
    let request = request.map(|body| LimitedMessages::around(body, bytes_max, received));
    let response = next.run(request).await;
    call.note(response.headers());
    let (mut parts, inner) = response.into_parts();
    let share = parts.extensions.remove::<HeldReservation>();
    let ending: Option<Ending> = match is_stream {
        true => Some(Box::pin(ending(context, needs_leader))),
        false => None,
    };
    Response::from_parts(parts, Body::new(Answer { inner, call, ending, share, is_over: false }))
}

/// Why a stream must not go on, as soon as there is a reason.
async fn ending(context: Context, needs_leader: bool) -> Status {
    let health = context.health.clone();
    tokio::select! {
        () = health.corrupt().cancelled() => RequestError::Corrupt.into_status(),
        () = leaderless(context), if needs_leader => status::no_leader(),
    }
}

/// Ends when there was no leader for three election timeouts.
async fn leaderless(context: Context) {
    let patience = context.limits.election_timeout * LEADERLESS_TIMEOUTS;
    let mut leaders = context.member.leaders();
    loop {
        if leaders.wait_for(Option::is_none).await.is_err() {
            return;
        }
        match tokio::time::timeout(patience, leaders.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A response on its way.
struct Answer {
    inner: Body,
    call: Call,
    ending: Option<Ending>,
    /// The response's share of the budget, held until it is sent.
    share: Option<HeldReservation>,
    is_over: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(ending) = &mut self.ending
            && let Poll::Ready(status) = ending.as_mut().poll(cx)
        {
            return Poll::Ready(Some(Ok(self.send_away(&status))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.call.context.metrics.calls.sent_bytes.inc_by(data.len() as u64);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.call.note(trailers);
                    // Asked again, a stream that has failed would fail for ever.
                    self.is_over = true;
                }
            }
            Poll::Ready(_) => self.is_over = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl Answer {
    /// Ends the stream with an error.
    fn send_away(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        self.inner = Body::empty();
        self.share = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            tracing::error!(%status, "a status does not fit into trailers");
        }
        self.call.note(&trailers);
        Frame::trailers(trailers)
    }
}
