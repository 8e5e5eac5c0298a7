//! Clocks of hosts: the wall clock of a member jumps, or runs fast or slow.
//!
//! Linux has no wall clock of its own for a group of processes (time namespaces hold only the monotonic clocks), so members are
//! started under libfaketime, which answers libc's `clock_gettime` from a file. Go programs read the clock past libc: an etcd
//! does not see it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng};

use super::{Deed, Scene};
use crate::stores::Hosts;

/// Where distributions put the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
/// Seconds between two looks at the file.
const LOOK_SECONDS: u32 = 1;
/// The true time.
const TRUE_TIME: &str = "+0";

/// A wall clock goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Whose.
    pub member: usize,
    /// In libfaketime's words: seconds and a rate.
    pub time: String,
}

/// Back or forth, by seconds or hours; the leader's or another's.
pub(super) fn jump(scene: Scene, rng: &mut StdRng) -> Deed {
    let seconds: i32 = match rng.random_range(0..3) {
        0 => rng.random_range(1..30),
        1 => rng.random_range(60..600),
        _ => rng.random_range(3_600..100_000),
    };
    let sign = if rng.random() { '+' } else { '-' };
    Deed::Clock(Clock { member: leader_or_other(scene, rng), time: format!("{sign}{seconds}") })
}

/// By up to a fifth, fast or slow.
pub(super) fn drift(scene: Scene, rng: &mut StdRng) -> Deed {
    let rate = 1.0 + rng.random_range(-0.2..0.2_f64);
    Deed::Clock(Clock { member: leader_or_other(scene, rng), time: format!("{TRUE_TIME} x{rate:.3}") })
}

fn leader_or_other(scene: Scene, rng: &mut StdRng) -> usize {
    if rng.random() { scene.leader_or_any(rng) } else { rng.random_range(0..scene.members) }
}

/// The library, if it is installed.
pub fn library() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The environment of a member whose clock can be turned.
pub(crate) fn environment(library: &Path, file: &Path) -> Vec<(String, String)> {
    let pairs = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_CACHE_DURATION", LOOK_SECONDS.to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Sets a clock.
pub(crate) fn set(file: &Path, time: &str) -> Result<()> {
    let staged = file.with_extension("new");
    fs::write(&staged, format!("{time}\n")).with_context(|| format!("cannot write {}", staged.display()))?;
    Ok(fs::rename(&staged, file)?)
}

/// Sets a clock right.
pub(crate) fn set_right(file: &Path) -> Result<()> {
    set(file, TRUE_TIME)
}

impl Clock {
    pub(super) fn inject(&self, hosts: &Hosts) -> Result<()> {
        set(&hosts.member(self.member).clock(), &self.time)
    }

    pub(super) fn heal(&self, hosts: &Hosts) -> Result<()> {
        set_right(&hosts.member(self.member).clock())
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time.strip_prefix("+0 ").map_or_else(|| format!("{} s", self.time), str::to_owned);
        write!(out, "m{} {time}", self.member + 1)
    }
}
