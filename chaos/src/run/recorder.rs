//! Where everybody's observations become lines of the history.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Take},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use xebec_chaos_core::{
    history::{Event, Fault, FaultPhase, Header, Writer},
    live::Live,
};

/// Writes the history of a run and counts along.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    path: PathBuf,
    sink: Mutex<Sink>,
    processes: AtomicU32,
    /// Counters for the progress line.
    pub counts: Counts,
}

#[derive(Debug)]
struct Sink {
    writer: Writer<BufWriter<File>>,
    error: Option<io::Error>,
    live: Live,
    /// The latest begin and the latest end of a fault.
    begun: Option<Fault>,
    healed: Option<Fault>,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered.
    pub ok: AtomicU64,
    /// Refused.
    pub failed: AtomicU64,
    /// Unknown.
    pub unknown: AtomicU64,
    /// Nanoseconds: when the last operation was answered.
    pub last_answer: AtomicU64,
    /// Answers and events that were checked at once.
    pub checked: AtomicU64,
    /// Violations found at once.
    pub found: AtomicU64,
}

impl Recorder {
    /// Begins a history; its time 0 is now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let writer = Writer::new(BufWriter::new(File::create(path)?), header)?;
        let sink = Mutex::new(Sink { writer, error: None, live: Live::default(), begun: None, healed: None });
        let path = path.to_owned();
        Ok(Self { start: Instant::now(), path, sink, processes: AtomicU32::new(0), counts: Counts::default() })
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A process number of one's own.
    pub fn new_process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a line. A failure to write is kept for [`Recorder::finish`], which fails with it.
    pub fn record(&self, event: &Event) {
        match event {
            Event::Ok { time, .. } => {
                self.counts.ok.fetch_add(1, Ordering::Relaxed);
                self.counts.last_answer.fetch_max(*time, Ordering::Relaxed);
            }
            Event::Fail { .. } => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            Event::Info { .. } => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        let mut sink = self.sink.lock().expect("no recorder panics while it writes");
        match event {
            Event::Fault(fault) if fault.phase == FaultPhase::Begin => sink.begun = Some(fault.clone()),
            Event::Fault(fault) => sink.healed = Some(fault.clone()),
            _ => {}
        }
        if let Some(wrong) = sink.live.see(event) {
            eprintln!("\nVIOLATED: {wrong}");
        }
        self.counts.checked.store(sink.live.looked_at(), Ordering::Relaxed);
        self.counts.found.store(sink.live.found(), Ordering::Relaxed);
        if let Err(error) = sink.writer.write(event) {
            sink.error.get_or_insert(error);
        }
    }

    /// The fault that was healed last, and when; 0 and 0 before any.
    pub(crate) fn last_healed(&self) -> (u64, u64) {
        let sink = self.sink.lock().expect("no recorder panics while it writes");
        sink.healed.as_ref().map_or((0, 0), |fault| (fault.id, fault.time))
    }

    /// The fault under way: its id, name, detail, and when it began.
    pub(crate) fn current_fault(&self) -> Option<(u64, String, String, u64)> {
        let sink = self.sink.lock().expect("no recorder panics while it writes");
        let begun = sink.begun.as_ref()?;
        let over = sink.healed.as_ref().is_some_and(|healed| healed.id == begun.id);
        (!over).then(|| (begun.id, begun.name.clone(), begun.detail.clone(), begun.time))
    }

    /// Whether something is broken just now.
    pub(crate) fn is_broken(&self) -> bool {
        self.current_fault().is_some()
    }

    /// The history up to now, in whole lines.
    ///
    /// # Errors
    /// The file cannot be written or read.
    pub(super) fn so_far(&self) -> io::Result<Take<File>> {
        let file = File::open(&self.path)?;
        let mut sink = self.sink.lock().expect("no recorder panics while it writes");
        sink.writer.flush()?;
        // Nobody writes meanwhile; what comes later may end in the middle of a line.
        let length = file.metadata()?.len();
        Ok(file.take(length))
    }

    /// Everything is in the file.
    ///
    /// # Errors
    /// A line could not be written.
    pub fn finish(&self) -> io::Result<()> {
        let mut sink = self.sink.lock().expect("no recorder panics while it writes");
        match sink.error.take() {
            Some(error) => Err(error),
            None => sink.writer.flush(),
        }
    }
}
