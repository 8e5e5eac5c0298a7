//! `cargo xtask sim`: runs seeds, each in a process of its own.

use anyhow::Result;
use clap::Parser;

mod driver;

fn main() -> Result<()> {
    driver::run(&driver::Arguments::parse())
}
