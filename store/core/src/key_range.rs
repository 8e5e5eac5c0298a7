use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::byte_string;

/// Which keys a request means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    /// One key.
    Key(#[serde(with = "byte_string")] Bytes),
    /// From `start` up to, not including, `end`; empty if `end <= start`.
    Span {
        /// The first key.
        #[serde(with = "byte_string")]
        start: Bytes,
        /// The key after the last.
        #[serde(with = "byte_string")]
        end: Bytes,
    },
    /// This key and all after it.
    From(#[serde(with = "byte_string")] Bytes),
}

impl KeyRange {
    /// Reads etcd's convention: no `range_end` is one key, `\0` is everything from the key on
    /// (etcd `api/etcdserverpb/rpc.proto`, `RangeRequest.range_end`).
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        match range_end.as_ref() {
            [] => KeyRange::Key(key),
            [0] => KeyRange::From(key),
            _ => KeyRange::Span { start: key, end: range_end },
        }
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::from_static(b"\0"))
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return KeyRange::Span { start: Bytes::copy_from_slice(prefix), end: Bytes::from(end) };
            }
        }
        KeyRange::From(if prefix.is_empty() { Bytes::from_static(b"\0") } else { Bytes::copy_from_slice(prefix) })
    }

    /// The first key.
    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::Key(key) | KeyRange::From(key) => key,
            KeyRange::Span { start, .. } => start,
        }
    }

    /// Whether `key` lies at or behind the end of this range.
    pub fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Key(only) => key > only.as_ref(),
            KeyRange::Span { end, .. } => key >= end.as_ref(),
            KeyRange::From(_) => false,
        }
    }

    /// Whether `key` is in this range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start().as_ref() && !self.is_behind(key)
    }

    /// The smallest key behind the range, `None` if the range has no end.
    pub fn end(&self) -> Option<Bytes> {
        match self {
            KeyRange::Key(key) => {
                let mut end = Vec::with_capacity(key.len() + 1);
                end.extend_from_slice(key);
                end.push(0);
                Some(Bytes::from(end))
            }
            KeyRange::Span { end, .. } => Some(end.clone()),
            KeyRange::From(_) => None,
        }
    }

    /// Whether no key can be in this range.
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Span { start, end } if end <= start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_follows_etcd_conventions() {
        type Row = (&'static [u8], &'static [u8], &'static [u8], bool);
        let table: &[Row] = &[
            (b"a", b"", b"a", true),
            (b"a", b"", b"a\0", false),
            (b"a", b"\0", b"\xff\xff", true),
            (b"b", b"\0", b"a", false),
            (b"a", b"c", b"b", true),
            (b"a", b"c", b"c", false),
            (b"c", b"a", b"b", false),
            (b"a", b"a", b"a", false),
            (b"\0", b"\0", b"\0", true),
        ];
        for (key, end, probe, expected) in table {
            let range = KeyRange::from_wire(Bytes::from_static(key), Bytes::from_static(end));
            assert_eq!(range.contains(probe), *expected, "{range:?} {probe:?}");
        }
    }

    #[test]
    fn a_prefix_of_highest_bytes_has_no_end() {
        assert_eq!(KeyRange::prefix(b"\xff"), KeyRange::From(Bytes::from_static(b"\xff")));
        assert!(KeyRange::prefix(b"a\xff").contains(b"a\xff\xff"));
        assert!(!KeyRange::prefix(b"a\xff").contains(b"b"));
        assert!(KeyRange::prefix(b"").contains(b"\0"));
    }
}
