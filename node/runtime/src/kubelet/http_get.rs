//! HTTP requests to containers, for probes and hooks. Certificates are not verified: upstream does not either, since a
//! container's certificate rarely names its pod address.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Most of an answer that is read (upstream's `maxRespBodyLength`).
const BODY_BYTES_MAX: usize = 10 << 10;

/// The number of a port, named or not.
pub(super) fn port(port: &IntOrString, spec: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => spec
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("no port {port:?}"))
}

/// Sends the request; an answer from 200 to 399 is a success, anything else an error that says what came.
pub(super) async fn http_get(
    get: &HTTPGetAction,
    spec: &Container,
    pod_ip: &str,
    limit: Duration,
) -> Result<(), String> {
    let port = port(&get.port, spec)?;
    let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip).to_owned();
    let attempt = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|error| format!("Get \"{host}:{port}\": {error}"))?;
        if get.scheme.as_deref() == Some("HTTPS") {
            let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
            let connector = tokio_rustls::TlsConnector::from(xebec_pki::unverified_client_config());
            let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
            exchange(get, &host, port, stream).await
        } else {
            exchange(get, &host, port, stream).await
        }
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

async fn exchange<S>(get: &HTTPGetAction, host: &str, port: u16, stream: S) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request =
        Request::get(path).header(http::header::USER_AGENT, "kube-probe/1.35").header(http::header::ACCEPT, "*/*");
    let own_host = get.http_headers.iter().flatten().find(|header| header.name.eq_ignore_ascii_case("host"));
    request =
        request.header(http::header::HOST, own_host.map_or(format!("{host}:{port}"), |header| header.value.clone()));
    for header in get.http_headers.iter().flatten().filter(|header| !header.name.eq_ignore_ascii_case("host")) {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    driver.abort();
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    tracing::debug!(body_bytes = body.len(), %status, "probe refused");
    Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
}
