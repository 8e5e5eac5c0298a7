//! The bytes of one file: as they are, and as they would be after a power loss.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use rand::{RngExt as _, rngs::StdRng};

/// What a disk writes whole, in bytes.
pub(crate) const SECTOR: u64 = 512;
/// Bytes copied at a time between the two states.
const COPY_BYTES: u64 = 1 << 20;
/// Unsynced writes remembered one by one; beyond it they are merged.
const PENDING_MAX: usize = 8_192;

/// A file's bytes. `fallocate`d space counts as allocated: writing there takes no new space.
#[derive(Debug)]
pub(crate) struct Content {
    live: File,
    synced: File,
    size: u64,
    synced_size: u64,
    allocated: u64,
    /// Unsynced writes, in the order they were made.
    pending: Vec<Range<u64>>,
    /// Writes whose sync failed: seen while the power is on, never saved by a later sync.
    failed: Vec<Range<u64>>,
    /// The shortest the file was since it was synced.
    shortest: u64,
}

impl Content {
    pub(crate) fn new(live: File, synced: File) -> Self {
        let (pending, failed) = (Vec::new(), Vec::new());
        Self { live, synced, size: 0, synced_size: 0, allocated: 0, pending, failed, shortest: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes up to which writing takes no new space.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.max(self.size)
    }

    pub(crate) fn live(&self) -> &File {
        &self.live
    }

    pub(crate) fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = length.min(self.size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.live.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.live.write_all_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        self.changed(offset.min(self.size)..end);
        self.size = self.size.max(end);
        Ok(())
    }

    /// Bytes of the range are other than they were: a hole was punched, zeros were written.
    pub(crate) fn changed(&mut self, range: Range<u64>) {
        match self.pending.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.pending.push(range),
        }
        if self.pending.len() > PENDING_MAX {
            self.pending = merged(std::mem::take(&mut self.pending));
        }
    }

    pub(crate) fn resize(&mut self, size: u64) -> io::Result<()> {
        self.live.set_len(size)?;
        if size < self.size {
            self.shortest = self.shortest.min(size);
            self.allocated = size;
            self.pending.retain_mut(|range| {
                range.end = range.end.min(size);
                range.start < range.end
            });
        }
        self.size = size;
        Ok(())
    }

    pub(crate) fn allocate(&mut self, end: u64, keep_size: bool) -> io::Result<()> {
        self.allocated = self.allocated.max(end);
        if !keep_size && end > self.size {
            self.live.set_len(end)?;
            self.size = end;
        }
        Ok(())
    }

    /// `fsync`: what is, will be.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.shortest < self.synced_size {
            self.synced.set_len(self.shortest)?;
        }
        self.synced.set_len(self.size)?;
        for range in merged(std::mem::take(&mut self.pending)) {
            copy(&self.live, &self.synced, range.start..range.end.min(self.size))?;
        }
        self.synced_size = self.size;
        self.shortest = self.size;
        Ok(())
    }

    /// A sync that fails, as Linux does it: what it should have saved counts as saved from now on, and is not.
    pub(crate) fn fail_to_sync(&mut self) {
        self.failed.append(&mut self.pending);
    }

    /// Power loss. With `torn`, of the unsynced writes the first few are there, and of the next some sectors.
    pub(crate) fn lose(&mut self, torn: Option<&mut StdRng>) -> io::Result<()> {
        if let Some(rng) = torn {
            self.keep_some(rng)?;
        }
        let mut differing = std::mem::take(&mut self.pending);
        differing.append(&mut self.failed);
        differing.push(self.shortest.min(self.synced_size)..self.synced_size);
        self.live.set_len(self.synced_size)?;
        for range in merged(differing) {
            copy(&self.synced, &self.live, range.start..range.end.min(self.synced_size))?;
        }
        (self.size, self.shortest, self.allocated) = (self.synced_size, self.synced_size, 0);
        Ok(())
    }

    fn keep_some(&mut self, rng: &mut StdRng) -> io::Result<()> {
        if self.pending.is_empty() || self.shortest < self.synced_size {
            return Ok(());
        }
        let whole = rng.random_range(0..self.pending.len());
        let torn = self.pending[whole].clone();
        let sectors = (torn.end.div_ceil(SECTOR) - torn.start / SECTOR).max(1);
        let end = (torn.start / SECTOR + rng.random_range(0..sectors)) * SECTOR;
        let kept = self.pending[..whole].iter().cloned().chain(std::iter::once(torn.start..end.max(torn.start)));
        for range in kept {
            let range = range.start..range.end.min(self.size);
            if range.start < range.end {
                self.synced_size = self.synced_size.max(range.end);
                self.synced.set_len(self.synced_size)?;
                copy(&self.live, &self.synced, range)?;
            }
        }
        Ok(())
    }
}

fn copy(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    let mut bytes = Vec::new();
    while at < range.end {
        let length = COPY_BYTES.min(range.end - at);
        bytes.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        from.read_exact_at(&mut bytes, at)?;
        to.write_all_at(&bytes, at)?;
        at += length;
    }
    Ok(())
}

fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len().min(64));
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn content() -> Content {
        Content::new(tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap())
    }

    fn text(content: &Content) -> String {
        String::from_utf8(content.read(0, u64::MAX).unwrap()).unwrap()
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_is_lost() {
        let mut content = content();
        content.write(0, b"one two").unwrap();
        content.sync().unwrap();
        content.write(4, b"TWO three").unwrap();
        assert_eq!(text(&content), "one TWO three");
        content.lose(None).unwrap();
        assert_eq!(text(&content), "one two");
        content.write(3, b"!").unwrap();
        content.sync().unwrap();
        content.lose(None).unwrap();
        assert_eq!(text(&content), "one!two");
    }

    #[test]
    fn a_cut_that_was_not_synced_is_undone() {
        let mut content = content();
        content.write(0, b"0123456789").unwrap();
        content.sync().unwrap();
        content.resize(2).unwrap();
        content.write(2, b"x").unwrap();
        content.resize(5).unwrap();
        assert_eq!(text(&content), "01x\0\0");
        content.lose(None).unwrap();
        assert_eq!(text(&content), "0123456789");
        content.resize(2).unwrap();
        content.resize(4).unwrap();
        content.sync().unwrap();
        content.lose(None).unwrap();
        assert_eq!(text(&content), "01\0\0", "and one that was synced is not");
    }

    #[test]
    fn what_a_failed_sync_left_out_no_later_one_saves() {
        let mut content = content();
        content.write(0, b"before").unwrap();
        content.sync().unwrap();
        content.write(0, b"BE").unwrap();
        content.fail_to_sync();
        content.write(5, b"E").unwrap();
        content.sync().unwrap();
        assert_eq!(text(&content), "BEforE");
        content.lose(None).unwrap();
        assert_eq!(text(&content), "beforE");
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_from_its_beginning() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let mut content = content();
            content.write(0, &[1; 700]).unwrap();
            content.sync().unwrap();
            content.write(700, &[2; 1_400]).unwrap();
            content.lose(Some(&mut StdRng::seed_from_u64(seed))).unwrap();
            let bytes = content.read(0, u64::MAX).unwrap();
            assert!(bytes[..700].iter().all(|byte| *byte == 1) && bytes[700..].iter().all(|byte| *byte == 2));
            seen.insert(bytes.len());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [700, 1_024, 1_536, 2_048]);
    }

    #[test]
    fn allocated_space_is_no_content() {
        let mut content = content();
        content.allocate(4_096, true).unwrap();
        assert_eq!((content.size(), content.allocated()), (0, 4_096));
        content.allocate(10, false).unwrap();
        assert_eq!(content.size(), 10);
    }

    #[test]
    fn overlapping_ranges_become_one() {
        assert_eq!(merged(vec![5..9, 0..2, 8..12, 2..3]), [0..3, 5..12]);
    }
}
