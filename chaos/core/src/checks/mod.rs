//! Checkers of single guarantees, and all checkers together.

pub mod bank;
pub mod counter;
pub mod fenced;
pub mod lease;
pub mod plane;
pub mod recovery;
pub mod revisions;
pub mod set;
pub mod watch;

mod all;
#[cfg(test)]
pub(crate) mod testing;

pub use all::check_all;
