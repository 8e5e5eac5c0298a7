//! The sockets.

use hickory_proto::op::{Message, ResponseCode};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use xebec_node_core::dns::Records;

use super::forward::Forwarder;
use super::message::{Reply, reply, udp_limit};

/// Largest question over UDP, in bytes.
const QUESTION_BYTES_MAX: usize = 4_096;
/// TCP connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 128;
/// How long a TCP connection may be idle.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Pause after a socket error.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What answers are made from.
pub(super) struct Answering {
    pub(super) records: Arc<RwLock<Records>>,
    pub(super) forwarder: Forwarder,
    pub(super) ready: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Answering {
    fn reply(&self, packet: &[u8]) -> Reply {
        reply(&self.records.read(), (self.ready)(), packet)
    }

    /// The answer to a question that is not ours.
    async fn forward(&self, mut refusal: Box<Message>, packet: &[u8], tcp: bool) -> Option<Vec<u8>> {
        if self.forwarder.is_configured() {
            if let Some(answer) = self.forwarder.ask(packet, tcp).await {
                return Some(answer);
            }
            refusal.metadata.response_code = ResponseCode::ServFail;
        }
        encode(&refusal, usize::from(u16::MAX))
    }
}

/// The message in bytes; truncated, and marked so, if it is longer than `limit`.
fn encode(message: &Message, limit: usize) -> Option<Vec<u8>> {
    let encoded = message.to_vec().ok()?;
    if encoded.len() <= limit {
        return Some(encoded);
    }
    message.truncate().to_vec().ok()
}

/// Answers over UDP. Cluster names are answered at once; only forwarded ones need a task each, bounded by the forwarder.
pub(super) async fn udp(socket: Arc<UdpSocket>, answering: Arc<Answering>) {
    let mut forwards = JoinSet::new();
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        while forwards.try_join_next().is_some() {}
        let (read, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // For example an ICMP error of an earlier answer.
                tracing::debug!(%error, "receiving failed");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let packet = &buffer[..read];
        match answering.reply(packet) {
            Reply::None => {}
            Reply::Now(message) => {
                if let Some(answer) = encode(&message, udp_limit(packet)) {
                    send(&socket, &answer, client).await;
                }
            }
            Reply::Forward(refusal) => {
                let (socket, answering, packet) = (socket.clone(), answering.clone(), packet.to_vec());
                forwards.spawn(async move {
                    if let Some(answer) = answering.forward(refusal, &packet, false).await {
                        send(&socket, &answer, client).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: std::net::SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%error, %client, "answer not sent");
    }
}

/// Answers over TCP.
pub(super) async fn tcp(listener: TcpListener, answering: Arc<Answering>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = slots.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let answering = answering.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, &answering).await {
                        tracing::debug!(%error, "DNS connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Each message is preceded by its length (RFC 1035, 4.2.2).
async fn converse(mut stream: TcpStream, answering: &Answering) -> std::io::Result<()> {
    loop {
        let question = async {
            let length = stream.read_u16().await?;
            let mut packet = vec![0; usize::from(length)];
            stream.read_exact(&mut packet).await.map(|_| packet)
        };
        let packet = match tokio::time::timeout(IDLE_MAX, question).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let answer = match answering.reply(&packet) {
            Reply::None => return Ok(()),
            Reply::Now(message) => encode(&message, usize::from(u16::MAX)),
            Reply::Forward(refusal) => answering.forward(refusal, &packet, true).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}
