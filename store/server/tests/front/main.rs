//! What stands in front of the store: locks and elections, range streams, HTTP, the JSON gateway, TLS, limits.
#![allow(clippy::unwrap_used, reason = "a test")]

mod concurrency;
mod gateway;
mod http;
mod limits;
#[path = "../processes/mod.rs"]
mod processes;
mod range_stream;
mod tls;
