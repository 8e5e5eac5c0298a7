//! Ports: HTTP/1.1 and HTTP/2 side by side, with or without TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, lookup_host},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use xebec_pki::Identity;

use crate::{
    auth::CommonName,
    flags::{CONCURRENT_STREAMS_DEFAULT, ConnectionFlags},
    run::Error,
};

/// Connections one port holds at a time.
const CONNECTIONS_MAX: usize = 10_000;
/// HTTP/2 windows, in bytes.
const WINDOW_BYTES: u32 = 1 << 20;
/// A TLS handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may go on when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after accepting failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one connection may do, and when it counts as dead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    streams_max: u32,
    /// Silence after which a connection is probed; `None`: never.
    probe_after: Option<Duration>,
    probe_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let (streams_max, wait) = (CONCURRENT_STREAMS_DEFAULT, Duration::from_secs(10));
        Self { streams_max, probe_after: Some(wait), probe_timeout: wait }
    }
}

impl ConnectionLimits {
    /// As the flags have them.
    pub fn of(flags: &ConnectionFlags) -> Self {
        let interval = flags.grpc_keepalive_interval;
        Self {
            streams_max: flags.max_concurrent_streams,
            probe_after: (interval > Duration::ZERO).then_some(interval),
            probe_timeout: flags.grpc_keepalive_timeout,
        }
    }
}

/// Where to listen, and how.
pub(crate) struct Endpoint {
    pub address: String,
    pub is_tls: bool,
}

impl Endpoint {
    /// Reads a URL as etcd's flags have them: `http://host:port` or `https://host:port`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let uri: http::Uri = url.parse().map_err(|error| Error::Flag(format!("{url}: {error}")))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Error::Flag(format!("{url}: a URL must begin with http:// or https://"))),
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if uri.port_u16().is_none() {
            return Err(Error::Flag(format!("{url}: a URL must name a port")));
        }
        Ok(Self { address: authority, is_tls })
    }

    /// Binds the endpoint on the current runtime.
    pub async fn bind(&self) -> Result<Vec<TcpListener>, Error> {
        let failed = |source| Error::Listen { address: self.address.clone(), source };
        let addresses: Vec<SocketAddr> = lookup_host(&self.address).await.map_err(failed)?.collect();
        let mut listeners = Vec::new();
        for address in addresses {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                // "localhost" may name an address family that this machine lacks.
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                    tracing::debug!(%address, %error, "not listening");
                }
                Err(error) => return Err(failed(error)),
            }
        }
        if listeners.is_empty() {
            return Err(failed(std::io::ErrorKind::AddrNotAvailable.into()));
        }
        Ok(listeners)
    }
}

/// Serves a port until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stop.cancelled() => return,
        };
        let Some((stream, slot)) = accepted else {
            continue;
        };
        let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            handle(stream, acceptor, router, limits, stop).await;
            drop(slot);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn handle(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    match acceptor {
        None => speak(stream, router, None, limits, stop).await,
        Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let name = common_name(&stream);
                speak(stream, router, name, limits, stop).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

/// Whom the client's certificate names, if it has shown one. The handshake has verified it.
fn common_name(stream: &TlsStream<TcpStream>) -> Option<CommonName> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    match Identity::from_der(certificate) {
        Ok(identity) => Some(CommonName(identity.common_name.into())),
        Err(error) => {
            tracing::debug!(%error, "a client's certificate has no readable name");
            None
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    name: Option<CommonName>,
    limits: ConnectionLimits,
    stop: CancellationToken,
) {
    let router = router.map_request(move |mut request: http::Request<Incoming>| {
        if let Some(name) = &name {
            request.extensions_mut().insert(name.clone());
        }
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 4)
        .keep_alive_interval(limits.probe_after)
        .keep_alive_timeout(limits.probe_timeout);
    builder.http1().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN_TIMEOUT, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection ended");
    }
}
