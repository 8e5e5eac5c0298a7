//! The handle through which the log is read and written.

use std::{
    collections::VecDeque,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    commit_hint::CommitHint,
    durations::{DurationCounts, Durations},
    entry::LogEntry,
    error::LogError,
    files::{Files, LocalFiles, Lock},
    queue::{Command, Done, Queue},
    segment::{self, Extent, Segment},
    state_file::StateFile,
    writer::Writer,
};

/// Times a read is tried again because a truncation ran meanwhile.
const READ_ATTEMPTS_MAX: usize = 3;

/// Where the log lives and how large its parts may grow.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The log's directory; made if it does not exist.
    pub dir: PathBuf,
    /// A new segment begins above this size, in bytes.
    pub segment_bytes_max: u64,
    /// Recent entries kept in memory, in bytes (entries not yet written are kept in any case).
    pub cache_bytes_max: usize,
}

impl LogOptions {
    /// The defaults: segments of 32 MiB, 8 MiB of cache.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes_max: 32 << 20, cache_bytes_max: 8 << 20 }
    }
}

/// The Raft log. Clones share it; the last one dropped stops the writer after what was queued.
///
/// Writes must come from one caller at a time (openraft's core serializes them); reads may come from anywhere.
pub struct Log<E: LogEntry> {
    handle: Arc<Handle<E>>,
}

impl<E: LogEntry> Clone for Log<E> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<E: LogEntry> std::fmt::Debug for Log<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("dir", &self.handle.dir).finish()
    }
}

struct Handle<E: LogEntry> {
    dir: PathBuf,
    shared: Arc<Shared<E>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    commit_hint: CommitHint,
    files: Arc<dyn Files>,
    _lock: Lock,
}

/// What the handle and the writer thread share.
pub(crate) struct Shared<E> {
    pub queue: Queue<E>,
    /// Since when the writer has been at its present command.
    pub busy_since: Mutex<Option<Instant>>,
    pub fsyncs: Durations,
    pub written_bytes: AtomicU64,
    pub state: Mutex<State<E>>,
}

pub(crate) struct State<E> {
    pub segments: VecDeque<Segment>,
    /// The newest entries, consecutive up to `next_index`; holds everything not yet in a segment.
    cache: VecDeque<E>,
    cache_bytes: usize,
    cache_bytes_max: usize,
    /// First entry that counts; earlier ones are purged.
    first_index: u64,
    next_index: u64,
    vote: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
    floor: u64,
    committed: Option<(u64, Vec<u8>)>,
    /// First index that may not be on disk yet.
    pub flushed_next: u64,
    /// Counts truncations, so that a reader notices one.
    truncations: u64,
}

enum Source<E> {
    Memory(Vec<E>),
    Disk(Extent, u64),
}

impl<E: LogEntry> Log<E> {
    /// Opens or creates a log.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] and [`LogError::MissingSegment`] if synced data is damaged; nothing is changed then.
    pub fn open(options: LogOptions) -> Result<Self, LogError> {
        Self::open_in(Arc::new(LocalFiles), options)
    }

    /// As [`Log::open`], in another file system than the machine's.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_in(files: Arc<dyn Files>, options: LogOptions) -> Result<Self, LogError> {
        let LogOptions { dir, segment_bytes_max, cache_bytes_max } = options;
        files.create_dir_all(&dir).map_err(LogError::io(&dir))?;
        let lock_path = dir.join("lock");
        let Some(lock) = files.lock(&lock_path).map_err(LogError::io(&lock_path))? else {
            return Err(LogError::InUse { dir });
        };
        let facts = StateFile::read(&*files, &dir)?;
        let first_index = facts.purged.as_ref().map_or(0, |(index, _)| index + 1);
        let segments = open_segments(&*files, &dir, first_index)?;
        let next_index = segments.back().map_or(first_index, |segment| segment.next_index().max(first_index));
        let synced_bytes = segments.back().map_or(0, |segment| segment.size_bytes);
        if let Some(segment) = segments.back() {
            // What a crashed process had written but not synced counts from here on.
            segment.file.sync_all().map_err(LogError::io(&segment.path))?;
        }
        let (commit_hint, committed) = CommitHint::open(&*files, &dir)?;
        if let Some((index, _)) = &committed
            && *index >= next_index
            && *index > facts.floor
        {
            let last = next_index.saturating_sub(1);
            return Err(LogError::Cut { dir, last, committed: *index });
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            busy_since: Mutex::new(None),
            fsyncs: Durations::of_disk(),
            written_bytes: AtomicU64::new(0),
            state: Mutex::new(State {
                segments,
                cache: VecDeque::new(),
                cache_bytes: 0,
                cache_bytes_max,
                first_index,
                next_index,
                vote: facts.vote.clone(),
                purged: facts.purged.clone(),
                floor: facts.floor,
                committed,
                flushed_next: next_index,
                truncations: 0,
            }),
        });
        let writer = Writer {
            files: files.clone(),
            dir: dir.clone(),
            // Offsets are 32 bits wide, and one record may follow the limit.
            segment_bytes_max: segment_bytes_max.min(1 << 30),
            shared: shared.clone(),
            facts,
            synced_bytes,
            buffer: Vec::new(),
            buffered: Vec::new(),
        };
        let thread = files.start(Box::new(writer)).map_err(LogError::io(&dir))?;
        let writer = Mutex::new(thread);
        Ok(Self { handle: Arc::new(Handle { dir, shared, writer, commit_hint, files, _lock: lock }) })
    }

    /// Lets writes fail that wait for something to change ([`Files::stop_waiting`]), so that the log can be closed.
    pub fn stop_waiting(&self) {
        self.handle.files.stop_waiting();
    }

    /// Appends consecutive entries. They are readable when this returns; `done` is told, on the writer's thread, when
    /// they are on disk.
    ///
    /// # Errors
    /// [`LogError::NotConsecutive`], or [`LogError::Closed`] after an earlier failure; `done` is not called then.
    pub fn append(
        &self,
        entries: Vec<E>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) -> Result<(), LogError> {
        let mut weight_bytes = 0;
        {
            let mut state = self.handle.shared.state.lock();
            let mut want = state.next_index;
            for entry in &entries {
                let got = entry.index();
                if got != want {
                    return Err(LogError::NotConsecutive { want, got });
                }
                want += 1;
                weight_bytes += entry.weight_bytes();
            }
            state.cache.extend(entries.iter().cloned());
            state.cache_bytes += weight_bytes;
            state.next_index = want;
        }
        let done: Done = Box::new(done);
        self.handle.shared.queue.push(Command::Append { entries, done }, weight_bytes)
    }

    /// Replaces the vote; `done` is told when it is on disk.
    ///
    /// # Errors
    /// [`LogError::Closed`] after an earlier failure.
    pub fn save_vote(
        &self,
        vote: Vec<u8>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) -> Result<(), LogError> {
        self.handle.shared.state.lock().vote = Some(vote.clone());
        let done: Done = Box::new(done);
        self.handle.shared.queue.push(Command::SaveVote { vote, done }, 0)
    }

    /// Notes that entries up to `floor` may be absent, before a snapshot that covers them is installed.
    ///
    /// # Errors
    /// [`LogError::Closed`] after an earlier failure.
    pub fn set_floor(
        &self,
        floor: u64,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) -> Result<(), LogError> {
        self.handle.shared.state.lock().floor = floor;
        let done: Done = Box::new(done);
        self.handle.shared.queue.push(Command::SetFloor { floor, done }, 0)
    }

    /// Notes that everything up to `index` is committed, without an fsync; passed over while `index` is not on this
    /// disk yet. `marker` is the caller's encoding of the log id.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn note_committed(&self, index: u64, marker: Vec<u8>) -> Result<(), LogError> {
        {
            let mut state = self.handle.shared.state.lock();
            if index >= state.flushed_next {
                return Ok(());
            }
            state.committed = Some((index, marker.clone()));
        }
        self.handle.commit_hint.write(index, &marker)
    }

    /// What was last noted as committed.
    #[must_use]
    pub fn committed(&self) -> Option<(u64, Vec<u8>)> {
        self.handle.shared.state.lock().committed.clone()
    }

    /// Removes the entries from `index` on; `done` is told when that is durable. The caller appends nothing meanwhile.
    ///
    /// # Errors
    /// [`LogError::Closed`] after an earlier failure.
    pub fn truncate_from(
        &self,
        index: u64,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) -> Result<(), LogError> {
        let done: Done = Box::new(done);
        self.handle.shared.queue.push(Command::TruncateFrom { index, done }, 0)
    }

    /// Forgets the entries up to `index`, which may lie beyond the end (a snapshot replaced them). Whole segments are
    /// removed in the background; `marker` is the caller's encoding of the purged log id.
    ///
    /// # Errors
    /// [`LogError::Closed`] after an earlier failure.
    pub fn purge(&self, index: u64, marker: Vec<u8>) -> Result<(), LogError> {
        {
            let mut state = self.handle.shared.state.lock();
            state.purged = Some((index, marker.clone()));
            state.first_index = state.first_index.max(index + 1);
            while state.cache_first() <= index && state.pop_cache() {}
            state.next_index = state.next_index.max(index + 1);
        }
        self.handle.shared.queue.push(Command::Purge { index, marker }, 0)
    }

    /// The entries of `range` that exist, up to about `bytes_max` of them but at least one. Blocks on the disk for
    /// entries older than the cache.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] or [`LogError::Io`].
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<E>, LogError> {
        let mut attempt = 1;
        loop {
            let (source, truncations) = {
                let state = self.handle.shared.state.lock();
                (state.find(&range, bytes_max), state.truncations)
            };
            let (extent, first_index) = match source {
                Source::Memory(entries) => return Ok(entries),
                Source::Disk(extent, first_index) => (extent, first_index),
            };
            let read = extent.read().and_then(|payloads| {
                payloads
                    .into_iter()
                    .zip(first_index..)
                    .map(|(payload, index)| match E::decode(payload) {
                        Ok(entry) if entry.index() == index => Ok(entry),
                        Ok(entry) => {
                            Err(extent.damaged(0, format!("entry {index}: it says that it is {}", entry.index())))
                        }
                        Err(reason) => Err(extent.damaged(0, format!("entry {index}: {reason}"))),
                    })
                    .collect()
            });
            let truncated = self.handle.shared.state.lock().truncations != truncations;
            if !truncated || attempt == READ_ATTEMPTS_MAX {
                return read;
            }
            attempt += 1;
        }
    }

    /// Whether [`Log::read`] of these entries needs no disk.
    #[must_use]
    pub fn is_cached(&self, range: &Range<u64>) -> bool {
        let state = self.handle.shared.state.lock();
        range.start.max(state.first_index) >= state.cache_first() || range.start >= state.next_index
    }

    /// Index of the last entry, or of the last purged one; `None` for a log that never held any.
    #[must_use]
    pub fn last_index(&self) -> Option<u64> {
        self.handle.shared.state.lock().next_index.checked_sub(1)
    }

    /// Index of the last entry that is on disk, or of the last purged one whose purge is; 0 if there is none. What was
    /// appended and not yet reported as flushed does not count. Every later open finds it, unless it is truncated.
    #[must_use]
    pub fn flushed_index(&self) -> u64 {
        self.handle.shared.state.lock().flushed_next.saturating_sub(1)
    }

    /// First index that can be read, if it exists.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.handle.shared.state.lock().first_index
    }

    /// The vote last saved, as the caller encoded it.
    #[must_use]
    pub fn vote(&self) -> Option<Vec<u8>> {
        self.handle.shared.state.lock().vote.clone()
    }

    /// Last purged index with the caller's marker.
    #[must_use]
    pub fn purged(&self) -> Option<(u64, Vec<u8>)> {
        self.handle.shared.state.lock().purged.clone()
    }

    /// Entries up to here may be absent because a snapshot covers them; see [`Log::set_floor`].
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.handle.shared.state.lock().floor
    }

    /// The last index that may be purged if about `keep_bytes` of the newest entries are to stay: always the end of a
    /// segment, since only whole segments give space back.
    #[must_use]
    pub fn purgeable(&self, keep_bytes: u64) -> Option<u64> {
        let state = self.handle.shared.state.lock();
        let mut kept_bytes = 0;
        for segment in state.segments.iter().rev() {
            if kept_bytes >= keep_bytes {
                return segment.next_index().checked_sub(1);
            }
            kept_bytes += segment.size_bytes;
        }
        None
    }

    /// How long fsyncs of entries took since the start.
    #[must_use]
    pub fn fsyncs(&self) -> DurationCounts {
        self.handle.shared.fsyncs.counts()
    }

    /// Bytes of entries written since the start.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.handle.shared.written_bytes.load(Ordering::Relaxed)
    }

    /// How long the writer has been at its present write or fsync; zero if it waits for work. A disk that hangs shows
    /// here, before any callback could tell.
    #[must_use]
    pub fn busy_for(&self) -> Duration {
        self.handle.shared.busy_since.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let state = self.handle.shared.state.lock();
        state.segments.iter().map(|segment| segment.size_bytes).sum()
    }
}

impl<E: LogEntry> Drop for Handle<E> {
    fn drop(&mut self) {
        // A failed writer has closed the queue and needs no stopping.
        if self.shared.queue.push(Command::Stop, 0).is_err() {
            tracing::debug!("the Raft log's writer had stopped before");
        }
        if let Some(writer) = self.writer.lock().take()
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the Raft log's writer panicked");
        }
    }
}

impl<E: LogEntry> State<E> {
    fn cache_first(&self) -> u64 {
        self.next_index - self.cache.len() as u64
    }

    /// First index that is not yet in a segment.
    pub fn written_next(&self) -> u64 {
        self.segments.back().map_or(self.first_index, |segment| segment.next_index())
    }

    fn pop_cache(&mut self) -> bool {
        let popped = self.cache.pop_front();
        if let Some(entry) = &popped {
            self.cache_bytes -= entry.weight_bytes();
        }
        popped.is_some()
    }

    /// Lets go of old entries that can be read from disk.
    pub fn evict(&mut self) {
        while self.cache_bytes > self.cache_bytes_max && self.cache_first() < self.written_next() && self.pop_cache() {}
    }

    pub fn truncate_cache(&mut self, index: u64) {
        while self.next_index > index {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= entry.weight_bytes();
            }
            self.next_index -= 1;
        }
        self.truncations += 1;
        self.flushed_next = self.flushed_next.min(index);
    }

    fn find(&self, range: &Range<u64>, bytes_max: usize) -> Source<E> {
        let start = range.start.max(self.first_index);
        let end = range.end.min(self.next_index);
        if start >= end {
            return Source::Memory(Vec::new());
        }
        let cache_first = self.cache_first();
        if start >= cache_first {
            let mut bytes: usize = 0;
            let entries = self
                .cache
                .range((start - cache_first) as usize..(end - cache_first) as usize)
                .take_while(|entry| {
                    let fits = bytes == 0 || bytes.saturating_add(entry.weight_bytes()) <= bytes_max;
                    bytes += entry.weight_bytes();
                    fits
                })
                .cloned()
                .collect();
            return Source::Memory(entries);
        }
        let at = self.segments.partition_point(|segment| segment.next_index() <= start);
        let segment = &self.segments[at];
        let limit = end.min(segment.next_index());
        // The last record that starts within the limit, but at least one.
        let first = (start - segment.first_index) as usize;
        let begin = u64::from(segment.offsets[first]);
        let fitting = segment.offsets[first..(limit - segment.first_index) as usize]
            .partition_point(|offset| u64::from(*offset) < begin.saturating_add(bytes_max as u64));
        let stop = start + (fitting as u64).max(1);
        Source::Disk(segment.extent(start, stop), start)
    }
}

/// Opens all segments and checks that nothing is missing between them.
fn open_segments(files: &dyn Files, dir: &std::path::Path, first_index: u64) -> Result<VecDeque<Segment>, LogError> {
    let listed = segment::list(files, dir)?;
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let count = listed.len();
    for (position, (index, path)) in listed.into_iter().enumerate() {
        let expected = segments.back().map_or(first_index.min(index), Segment::next_index);
        if index != expected && !(segments.is_empty() && index <= first_index) {
            return Err(LogError::MissingSegment { dir: dir.to_path_buf(), index: expected });
        }
        segments.extend(Segment::open(files, &path, index, position + 1 == count)?);
    }
    if let Some(first) = segments.front()
        && first.first_index > first_index
    {
        return Err(LogError::MissingSegment { dir: dir.to_path_buf(), index: first_index });
    }
    // A crash may have come between noting a purge and removing what it covers.
    while segments.front().is_some_and(|segment| segment.next_index() < first_index)
        || (segments.len() > 1 && segments[0].next_index() <= first_index)
    {
        if let Some(segment) = segments.pop_front() {
            files.remove(&segment.path).map_err(LogError::io(&segment.path))?;
        }
    }
    segment::sync_dir(files, dir)?;
    Ok(segments)
}
