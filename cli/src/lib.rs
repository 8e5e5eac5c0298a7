//! `xebec`: every component of the cluster in one program. A library, so that `examples/mutable.rs` is the same program with a
//! bug in it.

mod command;
mod master;
mod token;

pub use command::main;
