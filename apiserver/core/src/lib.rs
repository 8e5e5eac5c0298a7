//! The API server's decisions, pure: what a request asks for, what becomes of an object, who may do it, how it prints.
//!
//! Nothing here knows time, randomness or the network: a [`RequestContext`] brings what a decision needs. Objects are
//! `serde_json::Value`s; what is known about their shape comes from `xebec-api`.

// A refusal is a whole `Status`, built at most once a request: boxing it would cost every caller words, not time.
#![allow(clippy::result_large_err)]

pub mod admission;
pub mod components;
mod context;
pub mod conversion;
pub mod defaults;
pub mod fields;
pub mod openapi;
pub mod patch;
pub mod rbac;
pub mod registry;
pub mod request;
pub mod service;
pub mod subresource;
pub mod table;
pub mod validate;

pub use context::{RequestContext, SYSTEM_MASTERS, User};
