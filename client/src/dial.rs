//! Dials one of several masters: the one that worked last first, the others at once when it does not answer.

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::socket;

/// Bound on resolving and connecting to one server.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Bound on the TLS handshake with one server. A stopped process still accepts connections (its kernel does), so this
/// is what notices it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(2_000);

/// A server to dial.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The name its certificate must carry; `None` dials without TLS.
    pub(crate) tls_name: Option<ServerName<'static>>,
}

/// Why no server could be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Resolving, connecting or the handshake failed.
    #[error("cannot reach {server}: {source}")]
    Io {
        /// Host and port.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server did not answer in time.
    #[error("no answer from {server} in time")]
    Timeout {
        /// Host and port.
        server: String,
    },
    /// No server is configured.
    #[error("no server to connect to")]
    NoServer,
}

/// The connector under the HTTP client.
#[derive(Clone)]
pub(crate) struct Dial {
    servers: Arc<[Server]>,
    preferred: Arc<AtomicUsize>,
    tls: Arc<ClientConfig>,
}

impl Dial {
    pub(crate) fn new(servers: Vec<Server>, tls: Arc<ClientConfig>) -> Self {
        Self { servers: servers.into(), preferred: Arc::default(), tls }
    }

    async fn dial(self) -> Result<Link, DialError> {
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = DialError::NoServer;
        for attempt in 0..count {
            let index = (first + attempt) % count;
            match self.dial_one(&self.servers[index]).await {
                Ok(link) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(link);
                }
                Err(error) => {
                    tracing::debug!(%error, "server not reached");
                    failure = error;
                }
            }
        }
        // Everyone failed: the next call begins elsewhere, so that no single server is asked first for ever.
        self.preferred.store(first.wrapping_add(1), Ordering::Relaxed);
        Err(failure)
    }

    async fn dial_one(&self, server: &Server) -> Result<Link, DialError> {
        let name = || format!("{}:{}", server.host, server.port);
        let io = |source| DialError::Io { server: name(), source };
        let connecting = TcpStream::connect((server.host.as_str(), server.port));
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| DialError::Timeout { server: name() })?
            .map_err(io)?;
        socket::notice_vanished_peer(&tcp).map_err(io)?;
        let Some(tls_name) = server.tls_name.clone() else {
            return Ok(Link { io: TokioIo::new(Box::new(tcp)), h2: false });
        };
        let shaking = TlsConnector::from(self.tls.clone()).connect(tls_name, tcp);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking)
            .await
            .map_err(|_| DialError::Timeout { server: name() })?
            .map_err(io)?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link { io: TokioIo::new(Box::new(stream)), h2 })
    }
}

impl tower::Service<Uri> for Dial {
    type Response = Link;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An established connection, plain or TLS.
pub(crate) struct Link {
    io: TokioIo<Box<dyn Stream>>,
    h2: bool,
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        if self.h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
