//! The kubelet's HTTPS server: logs, streams into containers, health and metrics.
//!
//! Every client shows a certificate of the cluster's CA. `system:masters` may do everything (the API server is one of
//! them); anyone else is what a SubjectAccessReview says (`pkg/kubelet/server/auth.go`).

mod access;
mod logs;
mod metrics;
mod spdy;
mod stream;
mod websocket;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use xebec_pki::{ServerTls, server_config};

use crate::{Error, Flags, bootstrap::Identities, kubelet::Kubelet};

/// Most connections served at a time.
const CONNECTIONS_MAX: usize = 1_000;
/// Bound on a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often a missing serving certificate is looked for.
const CERTIFICATE_POLL: Duration = Duration::from_millis(200);

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// With what the server shows itself.
pub(crate) struct ServerIdentity {
    pub(crate) identities: Identities,
    pub(crate) stem: &'static str,
    pub(crate) common_name: String,
    pub(crate) node: String,
}

/// What requests are served with.
pub(crate) struct Context {
    pub(crate) kubelet: Arc<Kubelet>,
    pub(crate) access: access::Access,
}

/// Listens where the flags say; hollow nodes take any port.
pub(crate) async fn listen(flags: &Flags) -> Result<TcpListener, Error> {
    let port = if flags.hollow.is_some() { 0 } else { flags.port };
    let address = std::net::SocketAddr::new(flags.address, port);
    TcpListener::bind(address).await.map_err(|error| Error::io(format!("cannot listen on {address}"), error))
}

/// Serves until `stop`, from when there is a certificate to show.
pub(crate) async fn run(
    listener: TcpListener,
    kubelet: Arc<Kubelet>,
    identity: ServerIdentity,
    client: kube::Client,
    stop: CancellationToken,
) {
    while !identity.identities.is_good(identity.stem, &identity.common_name) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_POLL) => {}
        }
    }
    let (cert, key) = identity.identities.pair(identity.stem);
    let tls = ServerTls {
        cert,
        key,
        client_ca: Some(identity.identities.ca()),
        require_client_cert: true,
        alpn: vec![b"http/1.1".to_vec()],
    };
    let config = match server_config(&tls) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the kubelet serves nobody");
            return;
        }
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let context = Arc::new(Context { kubelet, access: access::Access::new(client, identity.node) });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, context, stop) = (acceptor.clone(), context.clone(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(stream, acceptor, context) => {}
            }
        });
    }
}

async fn serve(stream: tokio::net::TcpStream, acceptor: tokio_rustls::TlsAcceptor, context: Arc<Context>) {
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "kubelet: handshake failed"),
        Err(_) => return,
    };
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(Ok(peer)) = peer.map(|der| xebec_pki::Identity::from_der(der)) else { return };
    let service = service_fn(move |request| {
        let (context, peer) = (context.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &context, &peer).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error, "kubelet: connection ended");
    }
}

async fn answer(request: Request<Incoming>, context: &Context, peer: &xebec_pki::Identity) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match context.access.check(peer, request.method(), &parts).await {
        Ok(true) => {}
        Ok(false) => {
            let user = &peer.common_name;
            let message = format!("Forbidden (user={user}, verb={}, path={path})", request.method());
            return plain(StatusCode::FORBIDDEN, message);
        }
        Err(error) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error: {error}")),
    }
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["healthz" | "livez" | "readyz"]) => plain(StatusCode::OK, "ok"),
        (&Method::GET, ["metrics"]) => metrics::metrics(&context.kubelet).await,
        (&Method::GET, ["stats", "summary"]) => metrics::summary(&context.kubelet).await,
        (&Method::GET, ["pods" | "runningpods"]) => metrics::pods(&context.kubelet),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            logs::serve(&context.kubelet, namespace, pod, container, request.uri().query().unwrap_or_default()).await
        }
        (&Method::GET | &Method::POST, [kind @ ("exec" | "attach"), namespace, pod, container])
        | (&Method::GET | &Method::POST, [kind @ ("exec" | "attach"), namespace, pod, _, container]) => {
            let (kind, target) = (kind.to_string(), [namespace, pod, container].map(|part| part.to_string()));
            stream::serve(context.kubelet.clone(), &kind, target, request).await
        }
        (&Method::GET | &Method::POST, ["portForward", namespace, pod] | ["portForward", namespace, pod, _]) => {
            let target = [namespace.to_string(), pod.to_string(), String::new()];
            stream::serve(context.kubelet.clone(), "portForward", target, request).await
        }
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut answer = Response::new(full(text.into() + "\n"));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut answer = Response::new(full(value.to_string()));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// Pairs of a query, decoded.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'+' => out.push(b' '),
                b'%' => {
                    let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                    let text = String::from_utf8_lossy(&digits).into_owned();
                    out.push(u8::from_str_radix(&text, 16).unwrap_or(b'?'));
                }
                other => out.push(other),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_are_decoded() {
        let pairs = super::query_pairs("command=sh&command=-c&command=echo+a%26b&tty");
        let values: Vec<&str> = pairs.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["sh", "-c", "echo a&b", ""]);
    }
}
