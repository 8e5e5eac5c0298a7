//! `/exec`, `/attach`, `/portForward`: from whatever the client speaks to the runtime's streaming server.
//!
//! What the runtime understands itself (SPDY, WebSockets up to `v4.channel.k8s.io`) passes through as bytes, as in
//! upstream's kubelet. `v5.channel.k8s.io`, with which kubectl closes stdin, and SPDY inside a WebSocket, with which it
//! forwards ports, end here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use xebec_node_core::{actual::State, pod};
use xebec_proto::runtime::v1 as cri;

use super::{
    Body, full, plain, query_pairs,
    spdy::Channel,
    websocket::{self, TUNNEL_PROTOCOL, V5_PROTOCOL},
};
use crate::{kubelet::Kubelet, runtime::StreamRequest};

/// The runtime's best protocol for commands.
const RUNTIME_PROTOCOL: &str = "v4.channel.k8s.io";
/// And for ports.
const RUNTIME_PORT_PROTOCOL: &str = "portforward.k8s.io";

/// What the client wants, and at which address the runtime has it.
struct Opened {
    url: Uri,
    channels: Vec<Channel>,
}

/// Why a stream is refused.
struct Refusal(StatusCode, String);

pub(super) async fn serve(
    kubelet: Arc<Kubelet>,
    kind: &str,
    target: [String; 3],
    request: Request<Incoming>,
) -> Response<Body> {
    let opened = match open(&kubelet, kind, &target, request.uri().query().unwrap_or_default()).await {
        Ok(opened) => opened,
        Err(Refusal(status, reason)) => return plain(status, reason),
    };
    match connect(opened, kind, request).await {
        Ok(answer) => answer,
        Err(error) => plain(StatusCode::BAD_GATEWAY, format!("container runtime's streaming server: {error}")),
    }
}

async fn open(kubelet: &Kubelet, kind: &str, target: &[String; 3], query: &str) -> Result<Opened, Refusal> {
    let [namespace, name, container] = target;
    let not_found = |what: String| Refusal(StatusCode::NOT_FOUND, what);
    let failed = |error: crate::runtime::RuntimeError| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let found = kubelet.pod(namespace, name).ok_or_else(|| not_found(format!("pod {name:?} not found")))?;
    let runtime = &kubelet.parts.runtime;
    let actual = runtime.observe(pod::uid(&found)).await.map_err(failed)?;
    let pairs = query_pairs(query);
    let flag = |names: [&str; 2]| {
        pairs.iter().any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let (stdin, stdout, stderr) = (flag(["input", "stdin"]), flag(["output", "stdout"]), flag(["error", "stderr"]));
    let tty = flag(["tty", "tty"]);
    let stderr = stderr && !tty;
    let stream = if kind == "portForward" {
        let sandbox = actual.sandbox().ok_or_else(|| not_found(format!("pod {name:?} is not running")))?;
        let port = pairs.iter().filter(|(key, _)| key == "port").filter_map(|(_, value)| value.parse().ok()).collect();
        StreamRequest::PortForward(cri::PortForwardRequest { pod_sandbox_id: sandbox.id.clone(), port })
    } else {
        let instance = actual.newest(container).filter(|container| container.state == State::Running);
        let instance = instance.ok_or_else(|| not_found(format!("container not found (\"{container}\")")))?;
        let container_id = instance.id.clone();
        if kind == "exec" {
            let cmd = pairs.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
            StreamRequest::Exec(cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr })
        } else {
            StreamRequest::Attach(cri::AttachRequest { container_id, stdin, tty, stdout, stderr })
        }
    };
    let url = runtime.stream_url(stream).await.map_err(failed)?;
    let url = url.parse().map_err(|error| Refusal(StatusCode::BAD_GATEWAY, format!("{url}: {error}")))?;
    let wanted = [
        (Channel::Error, true),
        (Channel::Stdin, stdin),
        (Channel::Stdout, stdout),
        (Channel::Stderr, stderr),
        (Channel::Resize, tty),
    ];
    Ok(Opened { url, channels: wanted.into_iter().filter(|(_, on)| *on).map(|(channel, _)| channel).collect() })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn connect(opened: Opened, kind: &str, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let headers = request.headers();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_websocket = text(header::UPGRADE).eq_ignore_ascii_case("websocket");
    let offered = text(header::SEC_WEBSOCKET_PROTOCOL).to_owned();
    let offers = |protocol: &str| offered.split(',').any(|one| one.trim() == protocol);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let own = match (is_websocket, key) {
        (true, Some(key)) if kind == "portForward" && offers(TUNNEL_PROTOCOL) => Some((key, TUNNEL_PROTOCOL)),
        (true, Some(key)) if kind != "portForward" && offers(V5_PROTOCOL) => Some((key, V5_PROTOCOL)),
        _ => None,
    };
    let Some((key, protocol)) = own else {
        return pass_through(opened.url, request).await;
    };
    let runtime_protocol = if kind == "portForward" { RUNTIME_PORT_PROTOCOL } else { RUNTIME_PROTOCOL };
    let mut spdy = HeaderMap::new();
    spdy.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    spdy.insert("X-Stream-Protocol-Version", HeaderValue::from_static(runtime_protocol));
    let (head, backend) = upgrade(&opened.url, Method::POST, spdy).await?;
    let Some(backend) = backend else {
        return Ok(plain(head.status(), "the container runtime refused the stream"));
    };
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = async {
            let client = TokioIo::new(client.await.map_err(std::io::Error::other)?);
            if protocol == V5_PROTOCOL {
                websocket::translate(client, backend, &opened.channels).await
            } else {
                websocket::tunnel(client, backend).await
            }
        };
        if let Err(error) = ended.await {
            tracing::warn!(%error, "stream to a container broke");
        }
    });
    Ok(websocket::accept(&key, protocol))
}

/// Sends the client's own upgrade on, and its bytes after it.
async fn pass_through(url: Uri, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let mut headers = request.headers().clone();
    for name in [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    let (head, backend) = upgrade(&url, request.method().clone(), headers).await?;
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = head.status();
    *answer.headers_mut() = head.headers().clone();
    if let Some(mut backend) = backend {
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(client) = client.await else { return };
            let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut backend).await;
            if let Err(error) = copied {
                tracing::debug!(%error, "stream ended");
            }
        });
    }
    Ok(answer)
}

type Backend = TokioIo<Upgraded>;

/// Upgrades a connection to the runtime's streaming server; no backend if it refuses.
async fn upgrade(url: &Uri, method: Method, headers: HeaderMap) -> Result<(Response<()>, Option<Backend>), Failure> {
    let authority = url.authority().ok_or("the runtime's address names no host")?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "the runtime's stream ended");
        }
    });
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new())?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let mut answer = sender.send_request(request).await?;
    let mut head = Response::new(());
    *head.status_mut() = answer.status();
    *head.headers_mut() = answer.headers().clone();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok((head, None));
    }
    let upgraded = hyper::upgrade::on(&mut answer).await?;
    Ok((head, Some(TokioIo::new(upgraded))))
}
