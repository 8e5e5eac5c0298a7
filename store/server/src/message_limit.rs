//! The largest message a client may send, in grpc-go's words.
//!
//! tonic has such a limit, too, but answers with another code. So the length in front of each message is looked at before
//! tonic sees it (gRPC over HTTP/2: one byte of flags, four of length, big-endian, the message).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http_body::Frame;
use tonic::Status;

use crate::exposition::Counter;

/// Bytes before a message.
const HEADER_BYTES: usize = 5;

/// A request's body whose messages have at most so many bytes.
pub(crate) struct LimitedMessages {
    inner: Body,
    bytes_max: usize,
    lengths: Lengths,
    /// Counts what comes.
    received_bytes: Arc<Counter>,
}

impl LimitedMessages {
    pub fn around(inner: Body, bytes_max: usize, received_bytes: Arc<Counter>) -> Body {
        Body::new(Self { inner, bytes_max, lengths: Lengths::default(), received_bytes })
    }
}

/// Finds the messages' lengths in a stream of bytes that is cut anywhere.
#[derive(Debug, Default)]
struct Lengths {
    header: [u8; HEADER_BYTES],
    header_read: usize,
    message_left: usize,
}

impl Lengths {
    /// The longest message that begins in these bytes.
    fn longest_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut longest = 0;
        while !bytes.is_empty() {
            if self.message_left > 0 {
                let passed = self.message_left.min(bytes.len());
                self.message_left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.header[self.header_read] = bytes[0];
            self.header_read += 1;
            bytes = &bytes[1..];
            if self.header_read == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                self.message_left = u32::from_be_bytes(length) as usize;
                self.header_read = 0;
                longest = longest.max(self.message_left);
            }
        }
        longest
    }
}

impl http_body::Body for LimitedMessages {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.received_bytes.inc_by(data.len() as u64);
            let (longest, max) = (self.lengths.longest_in(data), self.bytes_max);
            if longest > max {
                let words = format!("grpc: received message larger than max ({longest} vs. {max})");
                return Poll::Ready(Some(Err(axum::Error::new(Status::resource_exhausted(words)))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for length in [0u32, 3, 700, 1] {
            stream.push(0);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for piece in [1, 2, 5, 7, 300, stream.len()] {
            let mut lengths = Lengths::default();
            let longest = stream.chunks(piece).map(|bytes| lengths.longest_in(bytes)).max();
            assert_eq!((longest, lengths.header_read, lengths.message_left), (Some(700), 0, 0), "pieces of {piece}");
        }
    }
}
