//! The line that tells how it goes.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::atomic::Ordering,
    time::Duration,
};

use super::Recorder;

/// Between lines where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// Prints to standard error: over itself on a terminal, now and then elsewhere.
pub(super) struct Line {
    total: Duration,
    terminal: bool,
    printed: Option<Duration>,
}

impl Line {
    pub(super) fn new(total: Duration) -> Self {
        Self { total, terminal: std::io::stderr().is_terminal(), printed: None }
    }

    /// Tells where the run stands.
    pub(super) fn tell(&mut self, recorder: &Recorder, fault: &str, faults_done: usize) {
        let now = Duration::from_nanos(recorder.now());
        let due = self.terminal || self.printed.is_none_or(|printed| now - printed >= LINE_PAUSE);
        if !due {
            return;
        }
        self.printed = Some(now);
        let counts = &recorder.counts;
        let silent = now.saturating_sub(Duration::from_nanos(counts.last_answer.load(Ordering::Relaxed)));
        let (ok, failed) = (counts.ok.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
        let (checked, found) = (counts.checked.load(Ordering::Relaxed), counts.found.load(Ordering::Relaxed));
        let text = format!(
            "{:>4}/{} s  {ok} ok, {failed} refused, {} unknown  {checked} checked, {found} violations  {faults_done} faults{}  {fault}",
            now.as_secs(),
            self.total.as_secs(),
            counts.unknown.load(Ordering::Relaxed),
            if silent > Duration::from_millis(300) {
                format!("  silent for {} ms", silent.as_millis())
            } else {
                String::new()
            },
        );
        let mut out = std::io::stderr().lock();
        let written = if self.terminal { write!(out, "\r\x1b[K{text}") } else { writeln!(out, "{text}") };
        // Nobody to tell is no reason to stop.
        drop(written.and_then(|()| out.flush()));
    }

    /// Leaves the line as it stands.
    pub(super) fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
