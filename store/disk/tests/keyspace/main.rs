//! The keyspace on disk: that it says what the model says, survives, and refuses damage.
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

mod agreement;
mod commands;
mod counts;
mod damage;
mod recovery;
