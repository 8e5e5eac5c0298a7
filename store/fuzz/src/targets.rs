//! What is fuzzed.

mod certificate;
mod checkpoint;
mod config;
mod kv;
mod log;
mod member;
mod peer;
mod planted;
mod restore;
mod snapshot;
mod token;

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use crate::input::Input;

/// Bytes that one input may take beyond what lived before it, unless a target says otherwise: inputs have at most
/// [`crate::input::INPUT_BYTES_MAX`], and no decoder should make hundreds of bytes of one.
pub const ALLOCATION_BYTES_MAX: usize = 96 << 20;

/// Some code that takes bytes from outside.
pub trait Target {
    /// Sound inputs to begin with.
    ///
    /// # Errors
    /// If they cannot be made.
    fn seeds(&self) -> Result<Vec<Input>>;

    /// Runs an input through the code. What it answers tells outcomes apart: inputs with new answers are kept and changed
    /// further. It panics if the code does, or breaks a promise.
    fn run(&mut self, input: &Input) -> u64;

    /// Pieces of text that mean something to the code.
    fn words(&self) -> &'static [&'static [u8]] {
        &[]
    }

    /// Bytes that one input may take.
    fn allocation_bytes_max(&self) -> usize {
        ALLOCATION_BYTES_MAX
    }
}

/// A target's name and how it is made.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Whether `cargo xtask fuzz` runs it unasked.
    pub is_usual: bool,
    make: fn() -> Result<Box<dyn Target>>,
}

impl Row {
    /// Makes the target.
    ///
    /// # Errors
    /// If what it needs of the machine is not to be had.
    pub fn make(&self) -> Result<Box<dyn Target>> {
        (self.make)()
    }
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Row> {
    let row = |name, about, make| Row { name, about, is_usual: true, make };
    vec![
        row("kv", "KV requests: decoded, validated, applied to a store in memory", || Ok(Box::new(kv::Kv::new()))),
        row("member", "a whole member: every gRPC call, raw frames, the JSON gateway, metadata", || {
            Ok(Box::new(member::Calls::new()?))
        }),
        row("peer", "values between members and in the log: commands, entries, votes, memberships", || {
            Ok(Box::new(peer::Peer))
        }),
        row("log", "directories of the Raft log: segments, state, commit hint", || Ok(Box::new(log::LogFiles))),
        row("snapshot", "snapshot files (etcd's database)", || Ok(Box::new(snapshot::Snapshot::new()?))),
        row("restore", "snapshot files, restored into a data directory", || Ok(Box::new(restore::Restore::new()?))),
        row("checkpoint", "snapshots between members, as streams of parts", || {
            Ok(Box::new(checkpoint::Checkpoints::new()?))
        }),
        row("config", "configuration files and flags", || Ok(Box::new(config::Config))),
        row("token", "signed tokens, --auth-token, key files", || Ok(Box::new(token::Tokens::new()))),
        row("certificate", "names in client certificates", || Ok(Box::new(certificate::Certificate))),
        Row {
            name: "planted",
            about: "decoders with known bugs, to see that they are found",
            is_usual: false,
            make: || Ok(Box::new(planted::Planted)),
        },
    ]
}

/// What tells outcomes apart by their text: numbers and what comes late in it do not count.
fn outcome(text: &str) -> u64 {
    const CHARACTERS: usize = 48;
    let letters = text.bytes().filter(|byte| !byte.is_ascii_digit()).take(CHARACTERS);
    letters.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Outcomes of several parts as one: the last, and a little of what came before.
fn join(before: u64, next: u64) -> u64 {
    next ^ (before & 0x7f)
}

/// A directory in memory if there is one: nothing of it has to last.
fn scratch_dir() -> Result<TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    Ok(tempfile::Builder::new().prefix("xebec-fuzz-").tempdir_in(base)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_every_target_but_the_slow_ones_runs() {
        for row in targets().into_iter().filter(|row| !["member", "planted"].contains(&row.name)) {
            let mut target = row.make().unwrap();
            let seeds = target.seeds().unwrap();
            assert!(!seeds.is_empty(), "{}", row.name);
            for seed in &seeds {
                target.run(seed);
            }
        }
    }
}
