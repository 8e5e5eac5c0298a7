//! The bytes of keys and values, format 3. Numbers in keys are big-endian, so that they sort; numbers in values are
//! little-endian.

use bytes::Bytes;
use xebec_store_core::{ClusterTime, EventKind, KeyValue, Lease, LeaseId, Revision};

/// The format of everything in the directory.
pub(crate) const FORMAT: u32 = 3;

const NUMBER_BYTES: usize = 8;
const RECORD_HEADER_BYTES: usize = 4 * NUMBER_BYTES;

/// A value that cannot be one of ours.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Reads fixed-width numbers off the front of a byte string.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.take()?))
    }
}

/// Escapes a key so that one key's entries sort together and before those of any longer key: `00` becomes `00 ff`, and
/// `00 01` ends the key.
pub(crate) fn escape_key(key: &[u8], escaped: &mut Vec<u8>) {
    for byte in key {
        escaped.push(*byte);
        if *byte == 0 {
            escaped.push(0xff);
        }
    }
    escaped.extend_from_slice(&[0, 1]);
}

/// `history`: the key of the version of `key` that was made at `mod_revision`.
pub(crate) fn history_key(key: &[u8], mod_revision: Revision) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(key.len() + 2 + NUMBER_BYTES);
    escape_key(key, &mut encoded);
    encoded.extend_from_slice(&mod_revision.0.to_be_bytes());
    encoded
}

/// Reads a [`history_key`].
pub(crate) fn parse_history_key(encoded: &[u8]) -> Result<(Vec<u8>, Revision), Malformed> {
    let (escaped, revision) = encoded.split_last_chunk::<NUMBER_BYTES>().ok_or(Malformed)?;
    let escaped = escaped.strip_suffix(&[0, 1]).ok_or(Malformed)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return Err(Malformed);
        }
    }
    Ok((key, Revision(i64::from_be_bytes(*revision))))
}

/// `current`: the value. The numbers, and then what the client wrote.
pub(crate) fn current_value(kv: &KeyValue) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(RECORD_HEADER_BYTES + kv.value.len());
    encoded.extend_from_slice(&current_header(kv));
    encoded.extend_from_slice(&kv.value);
    encoded
}

/// What a [`current_value`] begins with.
pub(crate) fn current_header(kv: &KeyValue) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    let numbers = [kv.create_revision.0, kv.mod_revision.0, kv.version, kv.lease.0];
    for (bytes, number) in header.chunks_exact_mut(NUMBER_BYTES).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    header
}

/// Reads a [`current_value`].
pub(crate) fn parse_current(key: Bytes, encoded: &[u8]) -> Result<KeyValue, Malformed> {
    parse_current_with(key, encoded, Bytes::copy_from_slice)
}

/// Reads a [`current_value`]; the value is taken out by `copy`.
pub(crate) fn parse_current_with(
    key: Bytes,
    encoded: &[u8],
    copy: impl FnOnce(&[u8]) -> Bytes,
) -> Result<KeyValue, Malformed> {
    let mut reader = Reader(encoded);
    Ok(KeyValue {
        key,
        create_revision: Revision(reader.number()?),
        mod_revision: Revision(reader.number()?),
        version: reader.number()?,
        lease: LeaseId(reader.number()?),
        value: copy(reader.0),
    })
}

/// The modification revision of a [`current_value`], without the rest.
pub(crate) fn parse_current_mod(encoded: &[u8]) -> Result<Revision, Malformed> {
    let mut reader = Reader(encoded);
    reader.number()?;
    Ok(Revision(reader.number()?))
}

/// `history`: the value of a version that was true until `until`, exclusive.
pub(crate) fn history_value(kv: &KeyValue, until: Revision) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(RECORD_HEADER_BYTES + kv.value.len());
    for number in [until.0, kv.create_revision.0, kv.version, kv.lease.0] {
        encoded.extend_from_slice(&number.to_le_bytes());
    }
    encoded.extend_from_slice(&kv.value);
    encoded
}

/// Reads a [`history_value`].
pub(crate) fn parse_history(key: Bytes, mod_revision: Revision, encoded: &[u8]) -> Result<KeyValue, Malformed> {
    let mut reader = Reader(encoded);
    reader.number()?;
    Ok(KeyValue {
        key,
        create_revision: Revision(reader.number()?),
        mod_revision,
        version: reader.number()?,
        lease: LeaseId(reader.number()?),
        value: Bytes::copy_from_slice(reader.0),
    })
}

/// Until when the version of a [`history_value`] was true, without the rest.
pub(crate) fn parse_history_until(encoded: &[u8]) -> Result<Revision, Malformed> {
    Ok(Revision(Reader(encoded).number()?))
}

/// `by_revision`: the key.
pub(crate) fn revision_key(revision: Revision, sub: u32) -> [u8; 12] {
    let mut encoded = [0; 12];
    encoded[..8].copy_from_slice(&revision.0.to_be_bytes());
    encoded[8..].copy_from_slice(&sub.to_be_bytes());
    encoded
}

/// Reads a [`revision_key`].
pub(crate) fn parse_revision_key(encoded: &[u8]) -> Result<(Revision, u32), Malformed> {
    let mut reader = Reader(encoded);
    let revision = Revision(i64::from_be_bytes(reader.take()?));
    Ok((revision, u32::from_be_bytes(reader.take()?)))
}

/// One entry of `by_revision`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) kind: EventKind,
    /// The mod revision of the version before; 0 if there was none.
    pub(crate) prev_mod: Revision,
    pub(crate) key: &'a [u8],
}

/// `by_revision`: the value.
pub(crate) fn change_value(change: &Change<'_>) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(1 + NUMBER_BYTES + change.key.len());
    encoded.push(match change.kind {
        EventKind::Put => 0,
        EventKind::Delete => 1,
    });
    encoded.extend_from_slice(&change.prev_mod.0.to_le_bytes());
    encoded.extend_from_slice(change.key);
    encoded
}

/// Reads a [`change_value`].
pub(crate) fn parse_change(encoded: &[u8]) -> Result<Change<'_>, Malformed> {
    let mut reader = Reader(encoded);
    let kind = match reader.take::<1>()? {
        [0] => EventKind::Put,
        [1] => EventKind::Delete,
        _ => return Err(Malformed),
    };
    Ok(Change { kind, prev_mod: Revision(reader.number()?), key: reader.0 })
}

/// `leases`: the key; also the prefix of the lease's entries in `lease_keys`.
pub(crate) fn lease_key(id: LeaseId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// `lease_keys`: the key.
pub(crate) fn lease_keys_key(id: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(NUMBER_BYTES + key.len());
    encoded.extend_from_slice(&lease_key(id));
    encoded.extend_from_slice(key);
    encoded
}

/// `leases`: the value.
pub(crate) fn lease_value(lease: &Lease) -> [u8; 16] {
    let mut encoded = [0; 16];
    encoded[..8].copy_from_slice(&lease.ttl_seconds.to_le_bytes());
    encoded[8..].copy_from_slice(&lease.deadline.0.to_le_bytes());
    encoded
}

/// Reads a [`lease_key`] and a [`lease_value`].
pub(crate) fn parse_lease(key: &[u8], value: &[u8]) -> Result<Lease, Malformed> {
    let mut reader = Reader(value);
    Ok(Lease {
        id: LeaseId(i64::from_be_bytes(Reader(key).take()?)),
        ttl_seconds: reader.number()?,
        deadline: ClusterTime(u64::from_le_bytes(reader.take()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn history_keys_sort_by_key_then_revision_and_read_back(a in key(), b in key(), x in 0i64..9, y in 0i64..9) {
            let (left, right) = (history_key(&a, Revision(x)), history_key(&b, Revision(y)));
            prop_assert_eq!(left.cmp(&right), (&a, x).cmp(&(&b, y)));
            prop_assert_eq!(parse_history_key(&left).unwrap(), (a, Revision(x)));
        }
    }

    #[test]
    fn records_read_back_and_short_ones_are_malformed() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: Revision(2),
            mod_revision: Revision(7),
            version: 3,
            lease: LeaseId(-9),
        };
        let current = current_value(&kv);
        assert_eq!(parse_current(kv.key.clone(), &current).unwrap(), kv);
        assert_eq!(parse_current_mod(&current).unwrap(), Revision(7));
        let history = history_value(&kv, Revision(9));
        assert_eq!(parse_history(kv.key.clone(), Revision(7), &history).unwrap(), kv);
        assert_eq!(parse_history_until(&history).unwrap(), Revision(9));
        assert!(parse_current(kv.key.clone(), &current[..20]).is_err());
        let change = Change { kind: EventKind::Delete, prev_mod: Revision(4), key: b"x" };
        assert_eq!(parse_change(&change_value(&change)).unwrap(), change);
        assert!(parse_change(&[7]).is_err());
    }
}
