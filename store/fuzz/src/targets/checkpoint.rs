//! Snapshots between members.

use std::fs;

use anyhow::{Result, anyhow};
use prost::Message;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use xebec_proto::xebec::peer::v1::{SnapshotPart, snapshot_part};
use xebec_store_raft::fuzzing::{receive_snapshot, snapshot_parts};

use super::{Target, outcome, scratch_dir};
use crate::input::{Input, Part};

/// Receives a stream of parts.
pub struct Checkpoints {
    dir: TempDir,
    runtime: Runtime,
}

impl Checkpoints {
    pub fn new() -> Result<Self> {
        Ok(Self { dir: scratch_dir()?, runtime: Builder::new_current_thread().build()? })
    }
}

/// The part that these bytes are; a chunk gets the right checksum, unless the kind is odd.
fn part_of(part: &Part) -> Option<SnapshotPart> {
    let mut decoded = SnapshotPart::decode(part.bytes.as_slice()).ok()?;
    if part.kind.is_multiple_of(2)
        && let Some(snapshot_part::Part::Chunk(chunk)) = &mut decoded.part
    {
        chunk.crc32c = crc32c::crc32c(&chunk.data);
    }
    Some(decoded)
}

impl Target for Checkpoints {
    fn seeds(&self) -> Result<Vec<Input>> {
        let parts = snapshot_parts().map_err(|error| anyhow!("{error}"))?;
        Ok(vec![Input { parts: parts.iter().map(|part| Part::new(0, part.encode_to_vec())).collect() }])
    }

    fn run(&mut self, input: &Input) -> u64 {
        let parts: Vec<_> = input.parts.iter().filter_map(part_of).map(Ok).collect();
        let dir = self.dir.path().join("incoming");
        let received = self.runtime.block_on(receive_snapshot(futures::stream::iter(parts), dir));
        let left = fs::read_dir(self.dir.path()).expect("the scratch directory is ours").flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "a snapshot left {left:?} behind");
        match received {
            Ok(()) => 1,
            Err(reason) => outcome(&reason),
        }
    }
}
