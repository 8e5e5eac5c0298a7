//! Snapshot files all the way into a data directory.

use std::fs;

use anyhow::Result;
use tempfile::TempDir;

use super::{Target, outcome, scratch_dir, snapshot};
use crate::input::Input;

/// `xebec store snapshot restore`.
pub struct Restore {
    dir: TempDir,
}

impl Restore {
    pub fn new() -> Result<Self> {
        Ok(Self { dir: scratch_dir()? })
    }
}

impl Target for Restore {
    fn seeds(&self) -> Result<Vec<Input>> {
        snapshot::seeds()
    }

    fn run(&mut self, input: &Input) -> u64 {
        let (path, data_dir) = (self.dir.path().join("snapshot.db"), self.dir.path().join("data"));
        if data_dir.exists() {
            fs::remove_dir_all(&data_dir).expect("the scratch directory is ours");
        }
        fs::write(&path, snapshot::file_of(input)).expect("the scratch directory takes a file");
        match xebec_store::fuzzing::restore(&path, data_dir) {
            Ok(()) => 1,
            Err(reason) => outcome(reason.rsplit(": ").next().unwrap_or_default()),
        }
    }
}
