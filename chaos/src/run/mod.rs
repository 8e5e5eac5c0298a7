//! A chaos run: a store, faults in a schedule from a seed, clients that record what they see, checks, a report.

mod breaking;
mod conduct;
mod flags;
mod judge;
mod lookout;
mod observer;
mod plane;
mod progress;
mod recorder;
mod schedule;

pub use conduct::{run, run_until_signalled};
pub use flags::{DiskNames, Flags};
pub use recorder::{Counts, Recorder};
