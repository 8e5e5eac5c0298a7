//! The listener: TLS, HTTP/1.1 and HTTP/2 on one port, graceful shutdown.

use super::reply::Reply;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use xebec_pki::Identity;

/// Time a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a client may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// Streams of one HTTP/2 connection; client-go multiplexes all its watches over one.
const STREAMS_MAX: u32 = 1000;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections open at once.
const CONNECTIONS_MAX: usize = 16_384;
/// Pause after the system refused to accept a connection (file descriptors used up).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Subject of its verified client certificate.
    pub certificate: Option<Identity>,
}

/// Serves connections until `stop`, then lets requests finish for `grace`.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    handle: H,
    stop: CancellationToken,
    grace: Duration,
) where
    H: Fn(Arc<Peer>, http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "listener: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(%address, "listener: too many connections");
            continue;
        };
        let (acceptor, handle, watcher) = (acceptor.clone(), handle.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(acceptor, stream, address, handle, watcher).await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::info!("listener: connections remained at the end of the grace period");
    }
}

async fn connection<H, F>(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    handle: H,
    watcher: Watcher,
) where
    H: Fn(Arc<Peer>, http::Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "listener: no delay");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "TLS handshake");
            return;
        }
        Err(_) => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(|certificate| {
        Identity::from_der(certificate).map_err(|error| tracing::debug!(%address, %error, "client certificate")).ok()
    });
    let peer = Arc::new(Peer { address, certificate });
    let service = service_fn(move |request| {
        let reply = handle(Arc::clone(&peer), request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%address, error, "connection ended");
    }
}
