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

    /// Notes a message's arrival.
    pub fn message(&self, micros: u64, from: usize, to: usize, kind: &str, path: &str, digest: u32) {
        let kept = self.0.lock().messages_kept;
        let name = path.rsplit('/').next().unwrap_or(path);
        self.add(format!("{micros:>12} {from}{kind}{to} {name} {digest:08x}"), kept);
    }

    fn add(&self, line: String, kept: bool) {
        let mut inner = self.0.lock();
        inner.hash = crc32c::crc32c_append(inner.hash, line.as_bytes());
        inner.events += 1;
        if !kept {
            return;
        }
        if inner.echo {
            println!("{line}");
        }
        inner.lines.push_back(line);
        if inner.lines.len() > LINES_KEPT_MAX {
            inner.lines.pop_front();
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
