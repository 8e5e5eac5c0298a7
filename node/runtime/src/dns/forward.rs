//! Questions outside the cluster are passed on as they are.

use hickory_proto::op::Message;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// How long each upstream may take.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions under way at a time; more are refused at once.
const UNDER_WAY_MAX: usize = 256;
/// Largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Asks the upstream servers in turn.
pub(super) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    slots: Semaphore,
}

impl Forwarder {
    pub(super) fn new(upstreams: Vec<SocketAddr>) -> Self {
        Self { upstreams, slots: Semaphore::new(UNDER_WAY_MAX) }
    }

    /// Whether there is anyone to ask.
    pub(super) fn is_configured(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// The first answer any upstream gives to `query`, under the query's own identifier.
    pub(super) async fn ask(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let _slot = self.slots.try_acquire().ok()?;
        let (id, rest) = query.split_first_chunk::<2>()?;
        // A fresh identifier and port for each question, so that nobody can guess an answer.
        let fresh: [u8; 2] = rand::random();
        let question = [&fresh[..], rest].concat();
        for upstream in &self.upstreams {
            let asking =
                async { if tcp { ask_tcp(*upstream, &question).await } else { ask_udp(*upstream, &question).await } };
            match tokio::time::timeout(UPSTREAM_TIMEOUT, asking).await {
                Ok(Ok(mut answer)) => {
                    answer.get_mut(..2)?.copy_from_slice(id);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream did not answer"),
                Err(_) => tracing::debug!(%upstream, "upstream did not answer in time"),
            }
        }
        None
    }
}

/// Whether `answer` answers `question`: same identifier, same query.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    question.get(..2) == answer.get(..2)
        && match (Message::from_vec(question), Message::from_vec(answer)) {
            (Ok(question), Ok(answer)) => question.queries == answer.queries,
            _ => false,
        }
}

async fn ask_udp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let read = socket.recv(&mut buffer).await?;
        // Anything else is not for us; the time limit ends the wait.
        if let Some(answer) = buffer.get(..read).filter(|answer| answers(question, answer)) {
            return Ok(answer.to_vec());
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(question, &answer) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
