//! Ordered reads of a range. The present is in `current` alone; the past is what of `current` is old enough, merged
//! with the versions in `history` that were true then. A key is never in both at the same revision.

use bytes::{Bytes, BytesMut};
use rocksdb::{DB, DBRawIteratorWithThreadMode};
use xebec_store_core::{KeyRange, KeyValue, Revision, Visit};

use crate::encoding::{self, Malformed};
use crate::options::Column;
use crate::{DiskError, View};

/// Bytes of the first block that a scan copies keys and values into, and of the largest. One allocation serves many of them;
/// a block stays in memory as long as one of them does.
const COPY_BLOCK_BYTES_FIRST: usize = 4 * 1024;
const COPY_BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Copies out of RocksDB's blocks, many small ones into one block of memory.
struct Copies {
    block: BytesMut,
    block_bytes: usize,
}

impl Copies {
    fn new() -> Copies {
        Copies { block: BytesMut::new(), block_bytes: COPY_BLOCK_BYTES_FIRST }
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(self.block_bytes.max(bytes.len()));
            self.block_bytes = (self.block_bytes * 2).min(COPY_BLOCK_BYTES_MAX);
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

pub(crate) fn scan(view: &View, range: &KeyRange, at: Revision, visit: &mut Visit<'_>) -> Result<(), DiskError> {
    if range.is_empty() {
        return Ok(());
    }
    let mut living = Living::new(view, range, at)?;
    if at >= view.state().revision {
        while let Some(kv) = living.take()? {
            if visit(kv).is_break() {
                break;
            }
        }
        return Ok(());
    }
    let mut past = Past::new(view, range, at)?;
    loop {
        let next = match (living.key(), past.key()) {
            (Some(alive), Some(superseded)) if alive < superseded => living.take()?,
            (_, Some(_)) => past.take()?,
            (Some(_), None) => living.take()?,
            (None, None) => None,
        };
        let Some(kv) = next else { return Ok(()) };
        if visit(kv).is_break() {
            return Ok(());
        }
    }
}

/// Counts the keys of a range one by one, up to `count_max` or one more.
pub(crate) fn count(view: &View, range: &KeyRange, at: Revision, count_max: u64) -> Result<u64, DiskError> {
    if range.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    let mut living = Living::new(view, range, at)?;
    while living.key().is_some() && count < count_max {
        count += 1;
        living.advance()?;
    }
    if at < view.state().revision {
        let mut past = Past::new(view, range, at)?;
        while past.key().is_some() && count < count_max {
            count += 1;
            past.advance()?;
        }
    }
    Ok(count)
}

/// The versions of a range that are alive and were there at `at`.
struct Living<'v> {
    view: &'v View,
    iterator: DBRawIteratorWithThreadMode<'v, DB>,
    at: Revision,
    copies: Copies,
}

impl<'v> Living<'v> {
    fn new(view: &'v View, range: &KeyRange, at: Revision) -> Result<Living<'v>, DiskError> {
        let mut iterator = view.iterate(Column::Current, range.end().map(Vec::from));
        iterator.seek(range.start());
        let mut living = Living { view, iterator, at, copies: Copies::new() };
        living.settle()?;
        Ok(living)
    }

    fn key(&self) -> Option<&[u8]> {
        self.iterator.key()
    }

    fn take(&mut self) -> Result<Option<KeyValue>, DiskError> {
        let Some((key, value)) = self.iterator.item() else { return Ok(None) };
        let copies = &mut self.copies;
        let kv = encoding::parse_current_with(copies.copy(key), value, |value| copies.copy(value))
            .map_err(|Malformed| self.view.database().malformed(Column::Current))?;
        self.advance()?;
        Ok(Some(kv))
    }

    fn advance(&mut self) -> Result<(), DiskError> {
        self.iterator.next();
        self.settle()
    }

    /// Moves on to the next version that is old enough.
    fn settle(&mut self) -> Result<(), DiskError> {
        if self.at < self.view.state().revision {
            while let Some(value) = self.iterator.value() {
                let made = encoding::parse_current_mod(value)
                    .map_err(|Malformed| self.view.database().malformed(Column::Current))?;
                if made <= self.at {
                    return Ok(());
                }
                self.iterator.next();
            }
        }
        if self.iterator.valid() { Ok(()) } else { self.view.database().finished(&self.iterator) }
    }
}

/// The superseded versions of a range that were true at `at`.
struct Past<'v> {
    view: &'v View,
    iterator: DBRawIteratorWithThreadMode<'v, DB>,
    at: Revision,
    /// The key and revision of the entry the iterator stands on.
    entry: Option<(Vec<u8>, Revision)>,
}

impl<'v> Past<'v> {
    fn new(view: &'v View, range: &KeyRange, at: Revision) -> Result<Past<'v>, DiskError> {
        let escaped = |key: &[u8]| {
            let mut escaped = Vec::with_capacity(key.len() + 2);
            encoding::escape_key(key, &mut escaped);
            escaped
        };
        let mut iterator = view.iterate(Column::History, range.end().map(|end| escaped(&end)));
        iterator.seek(escaped(range.start()));
        let mut past = Past { view, iterator, at, entry: None };
        past.settle()?;
        Ok(past)
    }

    fn key(&self) -> Option<&[u8]> {
        self.entry.as_ref().map(|(key, _)| key.as_slice())
    }

    fn take(&mut self) -> Result<Option<KeyValue>, DiskError> {
        let Some((key, made)) = self.entry.take() else { return Ok(None) };
        let value = self.iterator.value().unwrap_or_default();
        let kv = encoding::parse_history(Bytes::from(key), made, value).map_err(|Malformed| self.malformed())?;
        self.advance()?;
        Ok(Some(kv))
    }

    fn advance(&mut self) -> Result<(), DiskError> {
        self.iterator.next();
        self.settle()
    }

    /// Moves on to the next version that was true.
    fn settle(&mut self) -> Result<(), DiskError> {
        self.entry = None;
        while let Some((key, value)) = self.iterator.item() {
            let until = encoding::parse_history_until(value).map_err(|Malformed| self.malformed())?;
            if until > self.at {
                let (key, made) = encoding::parse_history_key(key).map_err(|Malformed| self.malformed())?;
                if made <= self.at {
                    self.entry = Some((key, made));
                    return Ok(());
                }
            }
            self.iterator.next();
        }
        self.view.database().finished(&self.iterator)
    }

    fn malformed(&self) -> DiskError {
        self.view.database().malformed(Column::History)
    }
}
