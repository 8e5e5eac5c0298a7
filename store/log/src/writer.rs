//! The one thread that writes.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use xebec_planted::{PlantedBug, is_planted};

use crate::{
    entry::LogEntry,
    error::LogError,
    files::{Files, Work},
    log::Shared,
    queue::{Command, Done},
    record::{self, HEADER_BYTES, PAYLOAD_BYTES_MAX},
    segment::{Segment, sync_dir},
    state_file::StateFile,
};

/// Bytes gathered before they are handed to the operating system, within one group commit.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// The write buffer is given back above this size, in bytes, so that one burst does not stay in memory.
const BUFFER_KEEP_BYTES: usize = 1 << 20;

pub(crate) struct Writer<E> {
    pub files: Arc<dyn Files>,
    pub dir: PathBuf,
    pub segment_bytes_max: u64,
    pub shared: Arc<Shared<E>>,
    pub facts: StateFile,
    /// Bytes of the active segment known to be on disk.
    pub synced_bytes: u64,
    pub buffer: Vec<u8>,
    /// Offsets of the records in `buffer`.
    pub buffered: Vec<u32>,
}

impl<E: LogEntry> Work for Writer<E> {
    fn run(&mut self) {
        loop {
            let commands = self.shared.queue.take();
            if !self.execute_all(commands) {
                return;
            }
        }
    }

    fn run_queued(&mut self) -> bool {
        let commands = self.shared.queue.take_queued();
        self.execute_all(commands)
    }
}

impl<E: LogEntry> Writer<E> {
    /// Does the commands in order; false when stopped or when a write has failed.
    fn execute_all(&mut self, mut commands: VecDeque<Command<E>>) -> bool {
        while let Some(command) = commands.pop_front() {
            if matches!(command, Command::Stop) {
                self.shared.queue.close("stopped");
                return false;
            }
            *self.shared.busy_since.lock() = Some(Instant::now());
            let done = self.execute(command, &mut commands);
            *self.shared.busy_since.lock() = None;
            if let Err(error) = done {
                tracing::error!(%error, "the Raft log cannot be written");
                self.shared.queue.close(&error.to_string());
                return false;
            }
        }
        true
    }

    /// Does one command; appends that wait right behind an append share its fsync.
    fn execute(&mut self, command: Command<E>, rest: &mut VecDeque<Command<E>>) -> Result<(), LogError> {
        match command {
            Command::Append { entries, done } => {
                let mut dones = vec![done];
                let mut result = self.write(&entries);
                while result.is_ok()
                    && let Some(Command::Append { .. }) = rest.front()
                    && let Some(Command::Append { entries, done }) = rest.pop_front()
                {
                    dones.push(done);
                    result = self.write(&entries);
                }
                let result = result.and_then(|()| self.flush()).and_then(|()| self.sync());
                self.report(dones, result.clone());
                if self.buffer.capacity() > BUFFER_KEEP_BYTES {
                    self.buffer = Vec::new();
                }
                result
            }
            Command::SaveVote { vote, done } => {
                self.facts.vote = Some(vote);
                self.finish(done, |writer| writer.facts.write(&*writer.files, &writer.dir))
            }
            Command::SetFloor { floor, done } => {
                self.facts.floor = floor;
                self.finish(done, |writer| writer.facts.write(&*writer.files, &writer.dir))
            }
            Command::TruncateFrom { index, done } => self.finish(done, |writer| writer.truncate_from(index)),
            Command::Purge { index, marker } => self.purge(index, marker),
            Command::Stop => Ok(()),
        }
    }

    fn finish(&mut self, done: Done, work: impl FnOnce(&mut Self) -> Result<(), LogError>) -> Result<(), LogError> {
        let result = work(self);
        let told = result.clone();
        self.files.report(Box::new(move || done(told)));
        result
    }

    /// Tells those who wait for an append how it ended.
    fn report(&self, dones: Vec<Done>, result: Result<(), LogError>) {
        let shared = self.shared.clone();
        let flushed = shared.state.lock().written_next();
        self.files.report(Box::new(move || {
            if result.is_ok() {
                let mut state = shared.state.lock();
                state.flushed_next = flushed.min(state.written_next());
            }
            for done in dones {
                done(result.clone());
            }
        }));
    }

    /// Encodes entries into the buffer, rotating and flushing as it fills.
    fn write(&mut self, entries: &[E]) -> Result<(), LogError> {
        for entry in entries {
            let index = entry.index();
            let (mut at, has_segment) = self.end_of_active();
            if !has_segment || at + self.buffer.len() as u64 >= self.segment_bytes_max {
                self.flush()?;
                self.rotate(index)?;
                at = self.end_of_active().0;
            } else if self.buffer.len() >= WRITE_BYTES_MAX {
                self.flush()?;
                at = self.end_of_active().0;
            }
            let start = self.buffer.len();
            self.buffer.resize(start + HEADER_BYTES, 0);
            let unstorable = |reason| LogError::Unstorable { index, reason };
            entry.encode(&mut self.buffer).map_err(unstorable)?;
            if self.buffer.len() - start > PAYLOAD_BYTES_MAX {
                return Err(unstorable(format!("more than {PAYLOAD_BYTES_MAX} bytes")));
            }
            record::seal(&mut self.buffer, start, index, self.synced_bytes);
            self.buffered.push((at + start as u64) as u32);
        }
        Ok(())
    }

    fn end_of_active(&self) -> (u64, bool) {
        let state = self.shared.state.lock();
        state.segments.back().map_or((0, false), |segment| (segment.size_bytes, true))
    }

    /// Hands the buffer to the operating system and lets readers find the records there.
    fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (file, path, at) = {
            let state = self.shared.state.lock();
            let segment = state.segments.back().expect("write() made a segment");
            (segment.file.clone(), segment.path.clone(), segment.size_bytes)
        };
        file.write_all_at(&self.buffer, at).map_err(LogError::io(&path))?;
        self.shared.written_bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        let mut state = self.shared.state.lock();
        let segment = state.segments.back_mut().expect("only this thread removes segments");
        segment.size_bytes += self.buffer.len() as u64;
        segment.offsets.append(&mut self.buffered);
        state.evict();
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let active = {
            let state = self.shared.state.lock();
            state.segments.back().map(|segment| (segment.file.clone(), segment.path.clone(), segment.size_bytes))
        };
        if let Some((file, path, size)) = active {
            if !is_planted(PlantedBug::SkipFsync) {
                let begun = Instant::now();
                file.sync_data().map_err(LogError::io(&path))?;
                self.shared.fsyncs.observe(begun.elapsed());
            }
            self.synced_bytes = size;
        }
        Ok(())
    }

    fn rotate(&mut self, first_index: u64) -> Result<(), LogError> {
        self.sync()?;
        let segment = Segment::create(&*self.files, &self.dir, first_index)?;
        self.synced_bytes = segment.size_bytes;
        self.shared.state.lock().segments.push_back(segment);
        Ok(())
    }

    /// Removes entries from the end backward, so that a crash in between leaves no hole.
    fn truncate_from(&mut self, index: u64) -> Result<(), LogError> {
        loop {
            let removed = {
                let mut state = self.shared.state.lock();
                match state.segments.back_mut() {
                    None => break,
                    Some(segment) if segment.first_index < index => {
                        segment.truncate(index)?;
                        break;
                    }
                    Some(_) => state.segments.pop_back(),
                }
            };
            if let Some(segment) = removed {
                self.files.remove(&segment.path).map_err(LogError::io(&segment.path))?;
                sync_dir(&*self.files, &self.dir)?;
            }
        }
        let mut state = self.shared.state.lock();
        self.synced_bytes = state.segments.back().map_or(0, |segment| segment.size_bytes);
        state.truncate_cache(index);
        Ok(())
    }

    /// Records the purge, then removes the segments that lie wholly below it.
    fn purge(&mut self, index: u64, marker: Vec<u8>) -> Result<(), LogError> {
        self.facts.purged = Some((index, marker));
        self.facts.write(&*self.files, &self.dir)?;
        let shared = self.shared.clone();
        self.files.report(Box::new(move || {
            let mut state = shared.state.lock();
            state.flushed_next = state.flushed_next.max(index + 1);
        }));
        let mut removed = Vec::new();
        {
            let mut state = self.shared.state.lock();
            while state.segments.front().is_some_and(|segment| segment.next_index() <= index + 1) {
                // The active segment stays, unless the next entry (index + 1) cannot follow its last one.
                if state.segments.len() == 1 && state.segments[0].next_index() == index + 1 {
                    break;
                }
                removed.extend(state.segments.pop_front());
            }
            if state.segments.is_empty() {
                self.synced_bytes = 0;
            }
        }
        for segment in &removed {
            self.files.remove(&segment.path).map_err(LogError::io(&segment.path))?;
        }
        if !removed.is_empty() {
            sync_dir(&*self.files, &self.dir)?;
        }
        Ok(())
    }
}
