//! What a cluster remembers from one command to the next, in `cluster.json`.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The hosts that belong to the cluster, beyond its masters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Numbers of the workers that have joined, counted from 1.
    pub workers: Vec<u8>,
}

impl State {
    /// Reads the state under `dir`; a cluster that was never started has none.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("cluster.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged; `cargo xtask down` removes the cluster", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the state under `dir`, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let staged = dir.join("cluster.json.new");
        fs::write(&staged, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&staged, dir.join("cluster.json"))?;
        Ok(())
    }
}
