//! The client's side of SPDY/3.1 towards the container runtime's streaming server, as far as `remotecommand` needs it:
//! a few streams opened at the start, data both ways, and the half-close of stdin that WebSockets of containerd 1.6 lack.

use std::{collections::HashMap, io};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use spdystream_rs::{
    Frame,
    frame::{DATA_FLAG_FIN, DataFrame, FLAG_FIN, PingFrame, SynStreamFrame},
    framer::Framer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Empty, ReadHalf, Sink, WriteHalf},
    sync::Mutex,
};

/// Largest piece of data put in a frame; SPDY's limit is 16 MiB.
const DATA_BYTES_MAX: usize = 32 << 10;

/// Streams a connection opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    Stdin,
    Stdout,
    Stderr,
    Error,
    Resize,
}

impl Channel {
    /// Numbers of the WebSocket protocols, and so of both sides.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Error => 3,
            Self::Resize => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }
}

/// What came from the runtime.
#[derive(Debug)]
pub(super) enum Received {
    /// Data of a stream.
    Data(Channel, Bytes),
    /// Anything that asks for nothing.
    Nothing,
}

pub(super) struct Writer<S> {
    framer: Mutex<Framer<WriteHalf<S>, Empty>>,
    ids: HashMap<Channel, u32>,
}

pub(super) struct Reader<S> {
    framer: Framer<Sink, ReadHalf<S>>,
    channels: HashMap<u32, Channel>,
    open: usize,
}

fn failed(error: spdystream_rs::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// Opens the streams, in the order that clients do.
pub(super) async fn open<S>(stream: S, channels: &[Channel]) -> io::Result<(Writer<S>, Reader<S>)>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    // One framer a direction: each direction has a compressor of its own, and neither waits for the other.
    let mut framer = Framer::new(write, tokio::io::empty());
    let mut ids = HashMap::new();
    for (index, channel) in channels.iter().enumerate() {
        // A client's streams have odd numbers.
        let stream_id = u32::try_from(index * 2 + 1).map_err(io::Error::other)?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("streamtype"), HeaderValue::from_static(channel.name()));
        let frame = SynStreamFrame { stream_id, associated_stream_id: 0, priority: 0, headers, flags: 0 };
        framer.write_frame(&Frame::SynStream(frame)).await.map_err(failed)?;
        ids.insert(*channel, stream_id);
    }
    let by_id = ids.iter().map(|(channel, id)| (*id, *channel)).collect();
    let outputs = [Channel::Stdout, Channel::Stderr, Channel::Error];
    let open = channels.iter().filter(|channel| outputs.contains(channel)).count();
    let reader = Reader { framer: Framer::new(tokio::io::sink(), read), channels: by_id, open };
    Ok((Writer { framer: Mutex::new(framer), ids }, reader))
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Writer<S> {
    /// Sends data of a stream; an empty last piece closes our half of it.
    pub(super) async fn send(&self, channel: Channel, data: Bytes, last: bool) -> io::Result<()> {
        let Some(&stream_id) = self.ids.get(&channel) else { return Ok(()) };
        let mut framer = self.framer.lock().await;
        let mut rest = data;
        loop {
            let piece = rest.split_to(rest.len().min(DATA_BYTES_MAX));
            let flags = if last && rest.is_empty() { DATA_FLAG_FIN } else { 0 };
            framer.write_frame(&Frame::Data(DataFrame { stream_id, flags, data: piece })).await.map_err(failed)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    async fn answer_ping(&self, id: u32) -> io::Result<()> {
        self.framer.lock().await.write_frame(&Frame::Ping(PingFrame { id })).await.map_err(failed)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Reader<S> {
    /// The next thing the runtime says; `None` when it has said everything.
    pub(super) async fn next(&mut self, writer: &Writer<S>) -> io::Result<Option<Received>> {
        if self.open == 0 {
            return Ok(None);
        }
        let frame = match self.framer.read_frame().await {
            Ok(frame) => frame,
            // The runtime closes the connection when the process is gone; what it had to say came before.
            Err(spdystream_rs::Error::ConnectionClosed) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let received = match frame {
            Frame::Data(data) => match self.channels.get(&data.stream_id) {
                Some(channel) => {
                    self.open -= usize::from(data.flags & DATA_FLAG_FIN != 0);
                    Received::Data(*channel, data.data)
                }
                None => Received::Nothing,
            },
            Frame::SynReply(reply) if reply.flags & FLAG_FIN != 0 => Received::Nothing,
            // Even numbers are the server's own pings.
            Frame::Ping(ping) if ping.id % 2 == 0 => {
                writer.answer_ping(ping.id).await?;
                Received::Nothing
            }
            Frame::RstStream(reset) => {
                self.open -= usize::from(self.channels.remove(&reset.stream_id).is_some());
                Received::Nothing
            }
            Frame::GoAway(_) => return Ok(None),
            _ => Received::Nothing,
        };
        Ok(Some(received))
    }
}
