//! WebSockets of kubectl that the runtime does not speak: `v5.channel.k8s.io` (KEP-4006) and SPDY in a tunnel.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{
    Body, full,
    spdy::{self, Channel, Received},
};

/// Commands with a half-close.
pub(super) const V5_PROTOCOL: &str = "v5.channel.k8s.io";
/// Ports, as SPDY inside binary messages.
pub(super) const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// First byte of a v5 message that closes the channel its second byte names.
const CLOSE: u8 = 255;
/// Piece of a tunnelled connection read at once.
const TUNNEL_BYTES: usize = 32 << 10;

/// The answer that turns the connection into a WebSocket.
pub(super) fn accept(key: &HeaderValue, protocol: &'static str) -> Response<Body> {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accepted) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    answer
}

/// kubectl counts a stream as complete only if it was closed with this code (client-go
/// `tools/remotecommand/websocket.go` maps 1000 to the end of file, everything else to an error).
fn normal_closure() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Carries a v5 WebSocket over the runtime's SPDY streams until the runtime has said everything, or the client leaves.
pub(super) async fn translate<C, B>(client: C, backend: B, channels: &[Channel]) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    B: AsyncRead + AsyncWrite + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let (mut to_client, mut from_client) = socket.split();
    let (writer, mut reader) = spdy::open(backend, channels).await?;
    let writer = Arc::new(writer);
    let outward = async {
        while let Some(received) = reader.next(&writer).await? {
            let Received::Data(channel, data) = received else { continue };
            if data.is_empty() {
                continue;
            }
            let mut message = Vec::with_capacity(data.len() + 1);
            message.push(channel.number());
            message.extend_from_slice(&data);
            to_client.send(Message::Binary(message.into())).await.map_err(io::Error::other)?;
        }
        to_client.send(normal_closure()).await.map_err(io::Error::other)
    };
    let inward = async {
        while let Some(message) = from_client.next().await {
            let data = match message.map_err(io::Error::other)? {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return Ok(()),
                _ => continue,
            };
            match data.first() {
                Some(0) => writer.send(Channel::Stdin, data.slice(1..), false).await?,
                Some(4) => writer.send(Channel::Resize, data.slice(1..), false).await?,
                Some(&CLOSE) if data.get(1) == Some(&0) => writer.send(Channel::Stdin, Bytes::new(), true).await?,
                _ => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}

/// Carries raw bytes inside a WebSocket's binary messages.
pub(super) async fn tunnel<C, B>(client: C, backend: B) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    B: AsyncRead + AsyncWrite + Send + 'static,
{
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let (mut to_client, mut from_client) = socket.split();
    let (mut read, mut write) = tokio::io::split(backend);
    let outward = async {
        let mut buffer = vec![0; TUNNEL_BYTES];
        loop {
            let count = read.read(&mut buffer).await?;
            if count == 0 {
                return to_client.send(normal_closure()).await.map_err(io::Error::other);
            }
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..count]));
            to_client.send(message).await.map_err(io::Error::other)?;
        }
    };
    let inward = async {
        while let Some(message) = from_client.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(data) => write.write_all(&data).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        write.shutdown().await
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}
