//! One proxied request.

use crate::http::{Body, Reply};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tower::Service as _;
use xebec_api::Status;
use xebec_pki::TlsConnector;

/// Time the other side may take to answer with a head.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers that concern one hop only (RFC 9110, 7.6.1), and credentials, which are ours alone.
const DROPPED: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "authorization",
    "x-xebec-fence",
];

/// Where a request goes.
#[derive(Clone)]
pub struct Target {
    /// Scheme, host, port, path and query.
    pub uri: Uri,
    /// Dials it.
    pub connector: TlsConnector,
}

/// Sends `request` to `target` and the answer back.
pub async fn forward(request: Request<Incoming>, mut target: Target) -> Result<Reply, Status> {
    let unavailable =
        |error: &dyn std::fmt::Display| Status::service_unavailable(format!("error trying to reach service: {error}"));
    let authority = target.uri.authority().map(ToString::to_string).unwrap_or_default();
    let connection = target.connector.call(target.uri.clone()).await.map_err(|error| unavailable(&error))?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake::<_, Incoming>(connection).await.map_err(|error| unavailable(&error))?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "proxy: connection ended");
        }
    });
    let (mut head, body) = request.into_parts();
    let upgrade = upgrade_of(&head.headers);
    let client = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let path = target.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = head.method;
    *outgoing.uri_mut() = path.parse().map_err(|error| unavailable(&error))?;
    *outgoing.version_mut() = Version::HTTP_11;
    copy_headers(&head.headers, outgoing.headers_mut());
    outgoing.headers_mut().insert(HOST, HeaderValue::from_str(&authority).map_err(|error| unavailable(&error))?);
    if let Some(protocol) = &upgrade {
        outgoing.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        outgoing.headers_mut().insert(UPGRADE, protocol.clone());
    }
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(outgoing)).await {
        Ok(answer) => answer.map_err(|error| unavailable(&error))?,
        Err(_) => return Err(Status::timeout("the other side did not answer in time", 0)),
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return Err(Status::bad_request("this connection cannot be upgraded"));
        };
        return Ok(switch(client, answer));
    }
    let (head, body) = answer.into_parts();
    let mut reply = Response::new(body.map_err(|error| Box::new(error) as Box<_>).boxed_unsync());
    *reply.status_mut() = head.status;
    copy_headers(&head.headers, reply.headers_mut());
    Ok(reply)
}

/// Joins the two upgraded connections and tells the client of the switch.
fn switch(client: hyper::upgrade::OnUpgrade, mut answer: Response<Incoming>) -> Reply {
    let server = hyper::upgrade::on(&mut answer);
    let (head, _) = answer.into_parts();
    tokio::spawn(async move {
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "proxy: upgrade");
                return;
            }
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
            tracing::debug!(%error, "proxy: tunnel ended");
        }
    });
    let mut reply: Response<Body> = Response::new(crate::http::empty_body());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_headers(&head.headers, reply.headers_mut());
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = head.headers.get(UPGRADE) {
        reply.headers_mut().insert(UPGRADE, protocol.clone());
    }
    reply
}

fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")));
    if wanted { headers.get(UPGRADE).cloned() } else { None }
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    let passes = |name: &HeaderName| !DROPPED.contains(&name.as_str()) && !name.as_str().starts_with("impersonate-");
    for (name, value) in from.iter().filter(|(name, _)| passes(name)) {
        to.append(name, value.clone());
    }
}
