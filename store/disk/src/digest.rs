//! A sum over the living versions, kept with every commit: equal on all members at equal revisions.
//!
//! Each version adds a hash of its record and takes away that of the version before, as it was read when the command was
//! applied. A member that applies anything else, or that reads a version other than it wrote, has another sum from then
//! on. Reading all records through and adding them up ([`Keyspace::scrub`]) finds what nobody has read since.

use xebec_store_core::{KeyValue, ReadView, Revision};

use crate::encoding;
use crate::options::Column;
use crate::{DiskError, Keyspace};

/// Revisions whose digests are remembered, for comparison with members that are not as far.
pub(crate) const DIGESTS_KEPT_MAX: usize = 16 * 1024;

/// What reading the living versions through came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// The revision that was read.
    pub revision: Revision,
    /// The sum that was kept.
    pub kept: u64,
    /// The sum of what is there.
    pub found: u64,
}

/// The hash of a living version. A CRC in the processor's own instructions: no noticeable part of a put.
pub(crate) fn of(kv: &KeyValue) -> u64 {
    let header = crc32c::crc32c_append(crc32c::crc32c(&kv.key), &encoding::current_header(kv));
    spread(&kv.key, crc32c::crc32c_append(header, &kv.value))
}

/// The hash of a record of `current`.
pub(crate) fn of_record(key: &[u8], value: &[u8]) -> u64 {
    spread(key, crc32c::crc32c_append(crc32c::crc32c(key), value))
}

/// A sum over 64 bits, so that sums of sums do not cancel.
fn spread(key: &[u8], sum: u32) -> u64 {
    let length = (key.len() as u64) << 32;
    // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    let mut mixed = (u64::from(sum) ^ length).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Keyspace {
    /// The digest of the keyspace at `revision`, if that is the present or among the last few thousand.
    pub fn digest_at(&self, revision: Revision) -> Option<u64> {
        let view = self.view();
        if view.current_revision() == revision {
            return Some(view.state().digest);
        }
        let digests = self.digests.lock();
        let at = digests.binary_search_by_key(&revision, |(revision, _)| *revision).ok()?;
        Some(digests[at].1)
    }

    /// Reads every living version and adds up what is there. Writers are not held up.
    ///
    /// # Errors
    /// If the disk cannot be read, for instance because a block's checksum does not match.
    pub fn scrub(&self) -> Result<Scrub, DiskError> {
        let view = self.view();
        let mut found = 0u64;
        let mut iterator = view.iterate_once(Column::Current);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            found = found.wrapping_add(of_record(key, value));
            iterator.next();
        }
        view.database().finished(&iterator)?;
        Ok(Scrub { revision: view.current_revision(), kept: view.state().digest, found })
    }

    pub(crate) fn remember_digests(&self, new: Vec<(Revision, u64)>) {
        let mut digests = self.digests.lock();
        digests.extend(new);
        let excess = digests.len().saturating_sub(DIGESTS_KEPT_MAX);
        digests.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use xebec_store_core::LeaseId;

    use super::*;

    fn version(value: usize) -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"/registry/pods/default/web-0"),
            create_revision: Revision(7),
            mod_revision: Revision(9),
            version: 3,
            lease: LeaseId(5),
            value: Bytes::from(vec![42; value]),
        }
    }

    #[test]
    fn a_version_and_its_record_have_one_hash() {
        for value in [0, 1, 4096] {
            let kv = version(value);
            assert_eq!(of(&kv), of_record(&kv.key, &encoding::current_value(&kv)));
            assert_ne!(of(&kv), of(&KeyValue { version: 4, ..kv.clone() }));
        }
    }

    #[test]
    fn a_hash_costs_little() {
        let kv = version(1024);
        let began = Instant::now();
        let sum = (0..10_000).fold(0u64, |sum, _| sum.wrapping_add(of(std::hint::black_box(&kv))));
        let nanos = began.elapsed().as_nanos() / 10_000;
        println!("{nanos} ns for 1 KiB ({sum:016x})");
        assert!(nanos < 20_000, "{nanos} ns");
    }
}
