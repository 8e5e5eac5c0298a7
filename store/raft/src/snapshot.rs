//! Snapshots between members: a keyspace checkpoint, streamed as files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use tokio::{sync::mpsc, task::JoinError};
use tokio_stream::wrappers::ReceiverStream;
use xebec_proto::xebec::peer::v1::{SnapshotChunk, SnapshotManifest, SnapshotPart, snapshot_part::Part};
use xebec_store_disk::{Checkpoint, CheckpointFile};

use crate::{
    blocking::blocking,
    types::{SnapshotMeta, TypeConfig, Vote},
    wire,
};

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD_MAX: usize = 8;
/// Files a snapshot may have.
const FILES_MAX: usize = 100_000;

/// A directory that is removed when nobody needs it any more.
#[derive(Debug)]
pub(crate) struct TemporaryDir(pub PathBuf);

/// A checkpoint and where its files are.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    pub dir: TemporaryDir,
    pub checkpoint: Checkpoint,
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a snapshot");
        }
    }
}

/// What a snapshot consists of: a checkpoint, or nothing but its metadata, where the live keyspace itself stands for
/// it (it is on disk, and a checkpoint is made only when one has to be sent).
#[derive(Debug, Clone)]
pub(crate) struct SnapshotData(pub Option<Arc<SnapshotFiles>>);

/// A snapshot could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    #[error(transparent)]
    Transport(#[from] tonic::Status),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::Io { path, source }
}

fn interrupted(error: JoinError) -> SnapshotError {
    SnapshotError::Protocol(error.to_string())
}

/// The parts of a snapshot, read from disk as the receiver takes them.
pub(crate) fn send(
    vote: &Vote,
    meta: &SnapshotMeta,
    data: SnapshotData,
) -> Result<impl Stream<Item = SnapshotPart> + Send + 'static, SnapshotError> {
    let files = data.0.ok_or_else(|| SnapshotError::Protocol("the snapshot has no checkpoint".to_owned()))?;
    let manifest = SnapshotManifest {
        format: u32::from(wire::FORMAT),
        vote: wire::encode(vote)?.into(),
        meta: wire::encode(meta)?.into(),
        checkpoint: wire::encode(&files.checkpoint)?.into(),
    };
    let (tx, rx) = mpsc::channel(CHUNKS_AHEAD_MAX);
    tokio::spawn(async move {
        let first = SnapshotPart { part: Some(Part::Manifest(manifest)) };
        if tx.send(first).await.is_err() {
            return;
        }
        // A short stream is refused by the receiver, so that an error here needs no message of its own.
        if let Err(error) = send_files(&files.dir.0, &files.checkpoint.files, &tx).await {
            tracing::warn!(%error, "cannot send a snapshot");
        }
    });
    Ok(ReceiverStream::new(rx))
}

async fn send_files(
    dir: &Path,
    files: &[CheckpointFile],
    tx: &mpsc::Sender<SnapshotPart>,
) -> Result<(), SnapshotError> {
    for (number, file) in files.iter().enumerate() {
        let path = dir.join(&file.name);
        let opening = path.clone();
        let source = blocking(move || File::open(opening)).await.map_err(interrupted)?;
        let mut source = source.map_err(io_error(&path))?;
        let mut offset = 0;
        while offset < file.size_bytes {
            let length = (file.size_bytes - offset).min(CHUNK_BYTES as u64) as usize;
            let read = blocking(move || {
                let mut data = vec![0; length];
                source.read_exact(&mut data).map(|()| (source, data))
            });
            let data;
            (source, data) = read.await.map_err(interrupted)?.map_err(io_error(&path))?;
            let chunk =
                SnapshotChunk { file: number as u32, offset, crc32c: crc32c::crc32c(&data), data: Bytes::from(data) };
            offset += length as u64;
            let part = SnapshotPart { part: Some(Part::Chunk(chunk)) };
            if tx.send(part).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Receives a snapshot into `dir`, verified and synced.
pub(crate) async fn receive(
    mut parts: impl Stream<Item = Result<SnapshotPart, tonic::Status>> + Unpin,
    dir: PathBuf,
) -> Result<(Vote, SnapshotOf<TypeConfig, SnapshotData>), SnapshotError> {
    let protocol = |reason: &str| SnapshotError::Protocol(reason.to_owned());
    let Some(SnapshotPart { part: Some(Part::Manifest(manifest)) }) = parts.try_next().await? else {
        return Err(protocol("a snapshot begins with its manifest"));
    };
    let vote = wire::decode(&manifest.vote)?;
    let meta = wire::decode(&manifest.meta)?;
    let checkpoint: Checkpoint = wire::decode(&manifest.checkpoint)?;
    let mut writer = FileWriter::new(dir, checkpoint.files.clone())?;
    while let Some(part) = parts.try_next().await? {
        let Some(Part::Chunk(chunk)) = part.part else {
            return Err(protocol("a chunk was expected"));
        };
        writer = blocking(move || writer.write(&chunk).map(|()| writer)).await.map_err(interrupted)??;
    }
    let dir = blocking(move || writer.finish()).await.map_err(interrupted)??;
    let snapshot = SnapshotData(Some(Arc::new(SnapshotFiles { dir, checkpoint })));
    Ok((vote, openraft::Snapshot { meta, snapshot }))
}

/// Writes chunks that come in order.
struct FileWriter {
    dir: TemporaryDir,
    files: Vec<CheckpointFile>,
    /// Open files by position; only the current one is open.
    current: Option<(usize, File)>,
    position: usize,
    offset: u64,
}

impl FileWriter {
    fn new(path: PathBuf, files: Vec<CheckpointFile>) -> Result<Self, SnapshotError> {
        if files.len() > FILES_MAX {
            return Err(SnapshotError::Protocol(format!("more than {FILES_MAX} files")));
        }
        let plain = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        };
        if let Some(file) = files.iter().find(|file| !plain(&file.name)) {
            return Err(SnapshotError::Protocol(format!("{:?} is not a file name", file.name)));
        }
        fs::create_dir_all(&path).map_err(io_error(&path))?;
        Ok(Self { dir: TemporaryDir(path), files, current: None, position: 0, offset: 0 })
    }

    /// Creates the files up to `position`; those before it must be complete.
    fn advance(&mut self, position: usize) -> Result<(), SnapshotError> {
        while self.current.as_ref().is_none_or(|(open, _)| *open < position) {
            if let Some((open, file)) = self.current.take() {
                if self.offset != self.files[open].size_bytes {
                    return Err(SnapshotError::Protocol(format!("{} is cut short", self.files[open].name)));
                }
                file.sync_all().map_err(io_error(&self.dir.0))?;
            }
            let Some(next) = self.files.get(self.position) else {
                return Ok(());
            };
            let path = self.dir.0.join(&next.name);
            let file = File::create(&path).map_err(io_error(&path))?;
            self.current = Some((self.position, file));
            self.position += 1;
            self.offset = 0;
        }
        Ok(())
    }

    fn write(&mut self, chunk: &SnapshotChunk) -> Result<(), SnapshotError> {
        let position = chunk.file as usize;
        if position >= self.files.len() {
            return Err(SnapshotError::Protocol(format!("there is no file {position}")));
        }
        self.advance(position)?;
        let name = &self.files[position].name;
        match &mut self.current {
            Some((open, file)) if *open == position && self.offset == chunk.offset => {
                if crc32c::crc32c(&chunk.data) != chunk.crc32c {
                    return Err(SnapshotError::Protocol(format!("{name}: offset {}: wrong checksum", chunk.offset)));
                }
                file.write_all(&chunk.data).map_err(io_error(&self.dir.0))?;
                self.offset += chunk.data.len() as u64;
                Ok(())
            }
            _ => Err(SnapshotError::Protocol(format!("{name}: offset {} is out of order", chunk.offset))),
        }
    }

    /// Checks that everything came, and syncs the directory.
    fn finish(mut self) -> Result<TemporaryDir, SnapshotError> {
        self.advance(self.files.len())?;
        File::open(&self.dir.0).and_then(|dir| dir.sync_all()).map_err(io_error(&self.dir.0))?;
        Ok(self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, contents: &[u8]) -> CheckpointFile {
        CheckpointFile { name: name.to_owned(), size_bytes: contents.len() as u64, crc32c: crc32c::crc32c(contents) }
    }

    fn chunk(file: u32, offset: u64, data: &'static [u8]) -> SnapshotChunk {
        SnapshotChunk { file, offset, crc32c: crc32c::crc32c(data), data: Bytes::from_static(data) }
    }

    fn writer(dir: &Path) -> FileWriter {
        FileWriter::new(dir.join("incoming"), vec![file("a.sst", b"first"), file("b.sst", b"second")]).unwrap()
    }

    #[test]
    fn chunks_in_order_become_the_files() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut writer = writer(dir.path());
        for part in [chunk(0, 0, b"fir"), chunk(0, 3, b"st"), chunk(1, 0, b"second")] {
            writer.write(&part).unwrap();
        }
        let made = writer.finish().unwrap();
        assert_eq!(fs::read(made.0.join("a.sst")).unwrap(), b"first");
        assert_eq!(fs::read(made.0.join("b.sst")).unwrap(), b"second");
    }

    #[test]
    fn a_damaged_missing_or_misplaced_chunk_is_refused_and_nothing_stays() {
        let mut flipped = chunk(0, 0, b"first");
        flipped.data = Bytes::from_static(b"fIrst");
        let damaged: [(&[SnapshotChunk], &str); 5] = [
            (&[flipped], "a.sst: offset 0: wrong checksum"),
            (&[chunk(0, 1, b"irst")], "a.sst: offset 1 is out of order"),
            (&[chunk(0, 0, b"fir"), chunk(1, 0, b"second")], "a.sst is cut short"),
            (&[chunk(2, 0, b"x")], "there is no file 2"),
            (&[chunk(0, 0, b"first"), chunk(1, 0, b"sec")], "b.sst is cut short"),
        ];
        for (chunks, reason) in damaged {
            let dir = tempfile::TempDir::new().unwrap();
            let mut writer = writer(dir.path());
            let refused = chunks.iter().find_map(|chunk| writer.write(chunk).err());
            let refused = match refused {
                Some(error) => {
                    drop(writer);
                    error
                }
                None => writer.finish().unwrap_err(),
            };
            assert_eq!(refused.to_string(), reason);
            assert!(!dir.path().join("incoming").exists(), "{reason}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        for name in ["../a.sst", "/etc/a", "a/b", "", ".."] {
            assert!(FileWriter::new(dir.path().join("incoming"), vec![file(name, b"")]).is_err(), "{name:?}");
        }
    }
}
