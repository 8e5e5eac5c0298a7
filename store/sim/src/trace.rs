//! What happened, for whoever looks at a failure, and a hash of all of it, to see that a seed replays.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;

/// Lines kept for a failure's report.
const LINES_KEPT_MAX: usize = 400;

#[derive(Debug, Default)]
struct Inner {
    hash: u32,
    lines: VecDeque<String>,
    events: u64,
    echo: bool,
    messages_kept: bool,
}

impl Inner {
    fn keep(&mut self, line: String) {
        if self.echo {
            println!("{line}");
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES_KEPT_MAX {
            self.lines.pop_front();
        }
    }
}

/// The trace. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

impl Trace {
    /// An empty trace; with `echo` every event is printed as it happens, with `messages` the network's too.
    #[must_use]
    pub fn new(echo: bool, messages: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { echo, messages_kept: messages, ..Inner::default() })))
    }

    /// Notes an event.
    pub fn note(&self, micros: u64, event: fmt::Arguments<'_>) {
        let line = format!("{:>9}.{:03} ms {event}", micros / 1_000, micros % 1_000);
        self.add(line, true);
    }

    /// Tells something that may be told in other words the next time.
    pub fn tell(&self, micros: u64, event: fmt::Arguments<'_>) {
        let line = format!("{:>9}.{:03} ms {event}", micros / 1_000, micros % 1_000);
        self.0.lock().keep(line);
    }

    /// Notes a message's arrival.
    pub fn message(&self, micros: u64, from: usize, to: usize, kind: &str, path: &str, digest: u32) {
        let kept = self.0.lock().messages_kept;
        let name = path.rsplit('/').next().unwrap_or(path);
        self.add(format!("{micros:>12} {from}{kind}{to} {name} {digest:08x}"), kept);
    }

    /// Notes what a member's state is once it has applied up to an index.
    pub fn state(&self, micros: u64, member: usize, index: u64, hash: u32) {
        let kept = self.0.lock().messages_kept;
        self.add(format!("{micros:>12} m{member} has state {hash:08x} at {index}"), kept);
    }

    fn add(&self, line: String, kept: bool) {
        let mut inner = self.0.lock();
        inner.hash = crc32c::crc32c_append(inner.hash, line.as_bytes());
        inner.events += 1;
        if kept {
            inner.keep(line);
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u32 {
        self.0.lock().hash
    }

    /// The last events.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let inner = self.0.lock();
        inner.lines.iter().skip(inner.lines.len().saturating_sub(count)).cloned().collect()
    }
}
