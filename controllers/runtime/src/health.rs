use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the health endpoints tell.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Connected and campaigning, or leading.
    pub(crate) ready: AtomicBool,
    /// Leading now.
    pub(crate) leading: AtomicBool,
}

/// Answers `/healthz`, `/livez`, `/readyz` and `/metrics` until `stop`.
pub(crate) async fn serve(address: SocketAddr, health: Arc<Health>, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "health connection not accepted");
                    continue;
                }
            },
        };
        let (health, stop) = (Arc::clone(&health), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &health);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "health connection ended");
                }
            }
        });
    }
}

fn answer<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/healthz" | "/livez" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if health.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ok".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not connected".to_owned()),
        "/metrics" => {
            let leading = u8::from(health.leading.load(Ordering::Relaxed));
            let text = format!(
                "# HELP leader_election_master_status Whether this instance leads.\n\
                 # TYPE leader_election_master_status gauge\n\
                 leader_election_master_status{{name=\"kube-controller-manager\"}} {leading}\n"
            );
            (StatusCode::OK, text)
        }
        _ => (StatusCode::NOT_FOUND, "not found".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
