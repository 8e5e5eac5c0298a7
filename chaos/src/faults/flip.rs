//! A bit of a stopped member's data is flipped.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Deed, Scene};
use crate::{process::last_lines, stores::Hosts};

/// Where data lie: log, keyspace, snapshots; by parts of the names that `xebec store` and etcd give them.
const KINDS: [&[&str]; 3] =
    [&["/log/", "/wal/"], &["/keyspace/", "/snap/db"], &["snapshot", ".snap", "/received/", "/checkpoints/"]];

/// A member is killed, a bit is flipped, the member is started; then the bit is put right again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Whose.
    pub member: usize,
    /// Which bit.
    pub seed: u64,
    place: Option<Place>,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    offset: u64,
    mask: u8,
    flipped: u8,
}

/// A member's, by chance.
pub(super) fn one(scene: Scene, rng: &mut StdRng) -> Deed {
    let member = rng.random_range(0..scene.members);
    Deed::Flip(Flip { member, seed: rng.random(), place: None, outcome: String::new() })
}

impl Flip {
    pub(super) fn inject(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        member.kill()?;
        let place = choose(&member.data(), &mut StdRng::seed_from_u64(self.seed))?;
        place.flip()?;
        let short = place.path.strip_prefix(member.data()).unwrap_or(&place.path).display().to_string();
        self.outcome = format!(" {short} at {}", place.offset);
        self.place = Some(place);
        member.start()
    }

    /// Whether it was noticed is told; whether answers were right is for the checks to say.
    pub(super) fn heal(&mut self, hosts: &Hosts) -> Result<()> {
        let member = hosts.member(self.member);
        if let Some(place) = self.place.take() {
            self.outcome += &if member.is_running() {
                ", it serves".to_owned()
            } else {
                format!(", it refuses: {}", last_lines(member.log(), 1))
            };
            member.kill()?;
            place.put_right()?;
        }
        member.start()
    }
}

impl Place {
    fn flip(&self) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let file = file.with_context(|| format!("cannot damage {}", self.path.display()))?;
        file.write_all_at(&[self.flipped], self.offset)?;
        Ok(file.sync_all()?)
    }

    /// Unless the file is gone or the byte was written anew.
    fn put_right(&self) -> Result<()> {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&self.path) else { return Ok(()) };
        let mut byte = [0];
        if file.read_exact_at(&mut byte, self.offset).is_ok() && byte[0] == self.flipped {
            file.write_all_at(&[self.flipped ^ self.mask], self.offset)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

/// A bit among those that mean something: zeros at the end of a file are allocated space.
fn choose(data: &Path, rng: &mut StdRng) -> Result<Place> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.sort();
    let below = |path: &Path| format!("/{}", path.strip_prefix(data).unwrap_or(path).display());
    let kinds: Vec<Vec<&PathBuf>> = KINDS
        .iter()
        .map(|parts| files.iter().filter(|path| parts.iter().any(|part| below(path).contains(part))).collect())
        .filter(|files: &Vec<_>| !files.is_empty())
        .collect();
    let mut kinds = kinds;
    if kinds.is_empty() {
        kinds.push(files.iter().collect());
    }
    let kind = &kinds[rng.random_range(0..kinds.len())];
    let path = kind.get(rng.random_range(0..kind.len().max(1))).context("there is no data to damage")?;
    let bytes = fs::read(path)?;
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let offset = rng.random_range(0..length);
    let mask = 1 << rng.random_range(0..8);
    let byte = bytes.get(offset).context("the file is empty")?;
    Ok(Place { path: path.to_path_buf(), offset: offset as u64, mask, flipped: byte ^ mask })
}

/// Files that hold data: neither RocksDB's own notes nor locks.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if entry.metadata()?.len() > 0 && !name.starts_with("LOG") && !name.starts_with("OPTIONS") {
            files.push(path);
        }
    }
    Ok(())
}

impl std::fmt::Display for Flip {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "m{}{}", self.member + 1, self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_data_is_flipped_and_put_right() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("keyspace")).unwrap();
        fs::create_dir_all(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("keyspace/LOG"), "talk").unwrap();
        fs::write(dir.path().join("keyspace/000004.sst"), "values").unwrap();
        let mut segment = b"record".to_vec();
        segment.resize(4_096, 0);
        fs::write(dir.path().join("log/1.log"), &segment).unwrap();
        for seed in 0..50 {
            let place = choose(dir.path(), &mut StdRng::seed_from_u64(seed)).unwrap();
            assert!(place.offset < 6, "{place:?}");
            let before = fs::read(&place.path).unwrap();
            place.flip().unwrap();
            let after = fs::read(&place.path).unwrap();
            let bits: u32 = before.iter().zip(&after).map(|(before, after)| (before ^ after).count_ones()).sum();
            assert_eq!((before.len(), bits), (after.len(), 1));
            place.put_right().unwrap();
            assert_eq!(fs::read(&place.path).unwrap(), before);
        }
    }

    #[test]
    fn what_was_written_anew_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "a").unwrap();
        let place = choose(dir.path(), &mut StdRng::seed_from_u64(1)).unwrap();
        place.flip().unwrap();
        fs::write(&path, "z").unwrap();
        place.put_right().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"z");
        fs::remove_file(&path).unwrap();
        place.put_right().unwrap();
    }
}
