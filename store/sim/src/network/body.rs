//! Bodies of simulated requests and responses.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Network, Piece};

/// Closes a call when whoever made it has no more interest.
pub(super) struct Guard {
    pub network: Network,
    pub call: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.network.close(self.call);
    }
}

/// A body that arrives piece by piece.
pub(super) struct PieceBody {
    pub pieces: mpsc::UnboundedReceiver<Piece>,
    pub ended: bool,
    #[allow(dead_code, reason = "closes the call when dropped")]
    pub guard: Option<Guard>,
}

impl http_body::Body for PieceBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Frame(frame)) => Some(Ok(frame)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(Status::unavailable("connection reset (simulated)")))
            }
        })
    }
}

/// A body that is all there.
pub(super) struct FramesBody(pub VecDeque<Frame<Bytes>>);

impl http_body::Body for FramesBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}
