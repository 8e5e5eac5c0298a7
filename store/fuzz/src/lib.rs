//! Fuzzing of everything that decodes bytes from outside: requests of clients, messages of peers, files of the log,
//! snapshots, configuration, tokens. See `docs/fuzzing.md`.
//!
//! A [`Target`] runs one input through the code that a server would run, as far behind the decoder as is possible. An
//! [`Input`] is a list of parts, so that one kind of mutation serves sequences of calls, files of a directory and frames
//! of a stream alike. A [`campaign`] runs in a process of its own (a worker), which leaves the input it is at in a file:
//! what kills the process, or takes too long, is found by whoever started it. Everything follows from a seed; only
//! where an input is found to be worth keeping depends on coverage, if the build counts it.

pub mod allocation;
pub mod campaign;
pub mod coverage;
pub mod findings;
pub mod generate;
pub mod input;
pub mod mutate;
pub mod protobuf;
pub mod targets;
pub mod worker;

pub use input::{Input, Part};
pub use targets::{Target, targets};
