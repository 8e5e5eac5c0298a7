//! openraft's log storage on top of `xebec-store-log`.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};
use tokio::sync::oneshot;
use xebec_store_log::{Log, LogEntry, LogError};

use crate::{
    blocking::blocking,
    types::{Entry, LogId, TypeConfig, Vote},
    wire,
};

/// Bytes of entries read from the log at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// A Raft entry as the log keeps it.
#[derive(Debug, Clone)]
pub(crate) struct StoredEntry(pub Entry);

impl LogEntry for StoredEntry {
    fn index(&self) -> u64 {
        self.0.log_id.index
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        wire::encode_into(&self.0, out).map_err(|error| error.to_string())
    }

    fn decode(bytes: Bytes) -> Result<Self, String> {
        wire::decode(&bytes).map(Self).map_err(|error| error.to_string())
    }

    fn weight_bytes(&self) -> usize {
        wire::entry_weight_bytes(&self.0)
    }
}

/// The log as openraft sees it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    log: Log<StoredEntry>,
}

impl LogStore {
    pub fn new(log: Log<StoredEntry>) -> Self {
        Self { log }
    }

    fn id_at(&self, index: u64) -> Result<Option<LogId>, io::Error> {
        let entries = self.log.read(index..index + 1, 1)?;
        Ok(entries.first().map(|entry| entry.0.log_id))
    }

    /// Reads from memory at once, from disk on a thread that may block.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        let range = start..end;
        let entries = if self.log.is_cached(&range) {
            self.log.read(range, bytes_max)?
        } else {
            let log = self.log.clone();
            blocking(move || log.read(range, bytes_max)).await??
        };
        Ok(entries.into_iter().map(|entry| entry.0).collect())
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// A callback for the log's writer and what to await for it.
pub(crate) fn flushed()
-> (impl FnOnce(Result<(), LogError>) + Send + 'static, impl Future<Output = Result<(), io::Error>>) {
    let (tx, rx) = oneshot::channel();
    let done = move |result| {
        if tx.send(result).is_err() {
            tracing::debug!("nobody waits for a log write");
        }
    };
    let wait = async { Ok(rx.await.map_err(io::Error::other)??) };
    (done, wait)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        let mut start = start.max(self.log.first_index());
        let mut entries = Vec::new();
        while start < end {
            let read = self.read(start, end, READ_BYTES_MAX).await?;
            if read.is_empty() {
                break;
            }
            start += read.len() as u64;
            entries.extend(read);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.vote().map(|bytes| wire::decode(&bytes).map_err(io::Error::other)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id: Option<LogId> =
            self.log.purged().map(|(_, marker)| wire::decode(&marker).map_err(io::Error::other)).transpose()?;
        let last_log_id = match self.log.last_index() {
            Some(index) => self.id_at(index)?.or(last_purged_log_id),
            None => None,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, wait) = flushed();
        self.log.save_vote(wire::encode(vote).map_err(io::Error::other)?, done)?;
        wait.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = committed {
            self.log.note_committed(id.index, wire::encode(&id).map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.committed().map(|(_, marker)| wire::decode(&marker).map_err(io::Error::other)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(StoredEntry).collect();
        let done = move |result: Result<(), LogError>| callback.io_completed(result.map_err(io::Error::from));
        Ok(self.log.append(entries, done)?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index + 1);
        let (done, wait) = flushed();
        self.log.truncate_from(from, done)?;
        wait.await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let marker = wire::encode(&log_id).map_err(io::Error::other)?;
        Ok(self.log.purge(log_id.index, marker)?)
    }
}
