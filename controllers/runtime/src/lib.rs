//! The controllers: caches and a table of control loops, run on one engine under a fenced leadership.
//!
//! What a controller decides is in `xebec-controllers-core`; here are the watches that wake it, the API calls that carry
//! out its actions, and the two things it must ask the API server itself: what kinds there are, and whether an owner is
//! really gone.

mod context;
mod discovery;
mod engine;
#[cfg(test)]
mod engine_tests;
mod execute;
#[cfg(test)]
mod fake;
mod flags;
mod garbage;
mod health;
mod rows;
mod run;
mod world;

pub use flags::Flags;
pub use run::{Error, run};
