//! Breaks a store made of this checkout, or any other, and checks what its clients saw.

use anyhow::Result;
use xebec_chaos::run::{Flags, run_until_signalled};

use crate::build::{self, Profile};

/// A run; builds the store it is to break unless another one was named.
pub fn run(mut flags: Flags) -> Result<()> {
    let own = flags.endpoints.is_empty() && flags.etcd.is_none() && flags.binary.is_none() && !flags.runs_nothing();
    if own {
        flags.binary = Some(build::xebec(Profile::Release)?);
    }
    run_until_signalled(flags)
}
