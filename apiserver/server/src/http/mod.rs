//! HTTP: the TLS listener, replies, limits, and the mapping of failures to `Status`.

mod body;
mod error;
mod listener;
mod metrics;
mod reply;

pub use body::read_body;
pub use error::{expired, status_reply, status_reply_to};
pub use listener::{Peer, serve};
pub use metrics::Metrics;
pub use reply::{Body, Reply, bytes_reply, compressed, empty_body, json_reply, stream_body, text_reply};
