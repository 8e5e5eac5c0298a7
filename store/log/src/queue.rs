//! What callers hand to the writer thread.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::error::LogError;

/// Told how a write ended, on the writer's thread.
pub(crate) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Bytes of entries that may wait for the disk; beyond it `append` blocks its caller.
const PENDING_BYTES_MAX: usize = 128 << 20;

pub(crate) enum Command<E> {
    Append { entries: Vec<E>, done: Done },
    SaveVote { vote: Vec<u8>, done: Done },
    SetFloor { floor: u64, done: Done },
    TruncateFrom { index: u64, done: Done },
    Purge { index: u64, marker: Vec<u8> },
    Stop,
}

/// A bounded queue to one consumer that takes everything at once.
pub(crate) struct Queue<E> {
    inner: Mutex<Inner<E>>,
    filled: Condvar,
    drained: Condvar,
}

struct Inner<E> {
    commands: VecDeque<Command<E>>,
    pending_bytes: usize,
    closed: Option<String>,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { commands: VecDeque::new(), pending_bytes: 0, closed: None }),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Queues a command, or gives back its callback's error if the writer is gone.
    pub fn push(&self, command: Command<E>, weight_bytes: usize) -> Result<(), LogError> {
        let mut inner = self.inner.lock();
        while inner.pending_bytes > PENDING_BYTES_MAX && inner.closed.is_none() {
            self.drained.wait(&mut inner);
        }
        if let Some(reason) = &inner.closed {
            return Err(LogError::Closed { reason: reason.clone() });
        }
        inner.pending_bytes += weight_bytes;
        inner.commands.push_back(command);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for commands and takes all of them.
    pub fn take(&self) -> VecDeque<Command<E>> {
        let mut inner = self.inner.lock();
        while inner.commands.is_empty() {
            self.filled.wait(&mut inner);
        }
        self.take_all(&mut inner)
    }

    /// Takes what there is.
    pub fn take_queued(&self) -> VecDeque<Command<E>> {
        self.take_all(&mut self.inner.lock())
    }

    fn take_all(&self, inner: &mut Inner<E>) -> VecDeque<Command<E>> {
        inner.pending_bytes = 0;
        self.drained.notify_all();
        std::mem::take(&mut inner.commands)
    }

    /// Refuses everything from now on and answers what still waits.
    pub fn close(&self, reason: &str) {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert_with(|| reason.to_owned());
        let waiting = std::mem::take(&mut inner.commands);
        self.drained.notify_all();
        drop(inner);
        for command in waiting {
            if let Some(done) = command.into_done() {
                done(Err(LogError::Closed { reason: reason.to_owned() }));
            }
        }
    }
}

impl<E> Command<E> {
    fn into_done(self) -> Option<Done> {
        match self {
            Self::Append { done, .. }
            | Self::SaveVote { done, .. }
            | Self::SetFloor { done, .. }
            | Self::TruncateFrom { done, .. } => Some(done),
            Self::Purge { .. } | Self::Stop => None,
        }
    }
}
