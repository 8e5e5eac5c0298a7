//! The scheduler: watches pods and nodes, asks `xebec-scheduler-core` where each pending pod goes, and binds it.
//!
//! Caches are kept warm on every master; decisions are made, and written under the leadership's fence, only where the
//! leadership `kube-scheduler` is.

mod bind;
mod flags;
mod run;
mod state;
mod term;

pub use flags::Flags;
pub use run::{Error, run};
