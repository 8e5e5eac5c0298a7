//! A layer-4 balancer over the masters: no master's death cuts off who stands behind it.
//!
//! It chooses a backend that has not failed lately, goes on to the next at once when one does not connect, and copies
//! both ways. TLS passes through untouched. Because the kernel of a stopped process still accepts connections, a client's
//! first flight (its TLS ClientHello) is replayed to the next backend when the first answers nothing in time; before the
//! server's first byte nothing has happened that could happen twice.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::socket;

/// How long connecting to a backend may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a backend may take to answer a TLS ClientHello until another one is tried.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long a backend that failed is tried last.
const PENALTY: Duration = Duration::from_secs(2);
/// Concurrent connections; beyond it new ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 16_384;
/// Bytes copied at a time, per direction.
const COPY_BYTES: usize = 16 * 1024;
/// Rounds over all backends for one client before it is hung up on.
const ROUNDS_MAX: usize = 3;
/// Pause between such rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// Pause after the listener failed to accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// First byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Flags of `xebec balancer`.
#[derive(Clone, Debug, clap::Args)]
pub struct BalancerFlags {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Addresses to balance over, separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    pub backends: Vec<SocketAddr>,
}

/// Why the balancer cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    /// It was given nothing to balance over.
    #[error("no backends")]
    NoBackends,
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Listens on `listen` and balances over `backends` until `stop`.
pub async fn run(listen: SocketAddr, backends: Vec<SocketAddr>, stop: CancellationToken) -> Result<(), BalancerError> {
    let listener = TcpListener::bind(listen).await.map_err(|source| BalancerError::Listen { listen, source })?;
    serve(listener, backends, stop).await
}

/// Balances connections of an existing listener until `stop`.
pub async fn serve(
    listener: TcpListener,
    backends: Vec<SocketAddr>,
    stop: CancellationToken,
) -> Result<(), BalancerError> {
    if backends.is_empty() {
        return Err(BalancerError::NoBackends);
    }
    let pool = Arc::new(Pool::new(backends));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let pool = pool.clone();
                connections.spawn(async move {
                    if let Err(error) = relay(client, &pool).await {
                        tracing::debug!(%error, "connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// The backends and what is remembered of them.
struct Pool {
    backends: Vec<Backend>,
    next: AtomicUsize,
}

struct Backend {
    address: SocketAddr,
    /// When it last failed, unless it has worked since.
    failed: Mutex<Option<Instant>>,
}

impl Pool {
    fn new(backends: Vec<SocketAddr>) -> Self {
        let backends = backends.into_iter().map(|address| Backend { address, failed: Mutex::default() }).collect();
        Self { backends, next: AtomicUsize::new(0) }
    }

    /// All backends in the order in which to try them: round robin, those that failed lately last.
    fn order(&self) -> Vec<&Backend> {
        let (count, first) = (self.backends.len(), self.next.fetch_add(1, Ordering::Relaxed));
        let mut order: Vec<_> = (0..count).map(|offset| &self.backends[first.wrapping_add(offset) % count]).collect();
        order.sort_by_key(|backend| backend.suspect());
        order
    }
}

impl Backend {
    fn suspect(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < PENALTY)
    }

    fn mark(&self, works: bool) {
        let was = std::mem::replace(&mut *self.failed.lock(), (!works).then(Instant::now));
        if was.is_none() != works {
            tracing::info!(backend = %self.address, works, "backend changed");
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await;
        let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.inspect_err(|_| self.mark(false))?;
        socket::notice_vanished_peer(&stream)?;
        Ok(stream)
    }
}

async fn relay(mut client: TcpStream, pool: &Pool) -> std::io::Result<()> {
    socket::notice_vanished_peer(&client)?;
    let mut flight = vec![0; COPY_BYTES];
    let read = client.read(&mut flight).await?;
    flight.truncate(read);
    if read == 0 {
        return Ok(());
    }
    let (mut server, answer) = establish(&flight, pool).await?;
    client.write_all(&answer).await?;
    drop((flight, answer));
    // Half closes are passed on: each direction is shut down when its source ends.
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, COPY_BYTES, COPY_BYTES).await?;
    Ok(())
}

/// A backend that has taken the client's first flight, with its first answer (empty where it was not waited for).
async fn establish(flight: &[u8], pool: &Pool) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut failure = std::io::Error::from(std::io::ErrorKind::NotConnected);
    for round in 0..ROUNDS_MAX {
        if round > 0 {
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        for backend in pool.order() {
            match attempt(flight, backend).await {
                Ok(established) => {
                    backend.mark(true);
                    return Ok(established);
                }
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

async fn attempt(flight: &[u8], backend: &Backend) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut server = backend.connect().await?;
    let mut answer = Vec::new();
    let exchange = async {
        server.write_all(flight).await?;
        if flight.first() == Some(&TLS_HANDSHAKE) {
            answer.reserve(COPY_BYTES);
            if server.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<(), std::io::Error>(())
    };
    let exchanged = tokio::time::timeout(FIRST_ANSWER_TIMEOUT, exchange).await;
    exchanged.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).inspect_err(|_| backend.mark(false))?;
    Ok((server, answer))
}
