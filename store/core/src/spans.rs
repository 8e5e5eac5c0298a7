use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::KeyRange;

/// A set of keys made of ranges, merged where they touch, so that looking a key up stays logarithmic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// Start to end; `None` is no end.
    spans: BTreeMap<Bytes, Option<Bytes>>,
}

impl Spans {
    pub(crate) fn insert(&mut self, range: &KeyRange) {
        if !range.is_empty() {
            self.insert_span(range.start().clone(), range.end());
        }
    }

    pub(crate) fn extend(&mut self, other: Spans) {
        for (start, end) in other.spans {
            self.insert_span(start, end);
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.spans
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_ref()))
    }

    /// Whether every key of `range` is in the set.
    pub(crate) fn covers(&self, range: &KeyRange) -> bool {
        if let KeyRange::Key(key) = range {
            return self.contains(key);
        }
        let start = range.start();
        let around = self.spans.range::<[u8], _>((Bound::Unbounded, Bound::Included(start.as_ref()))).next_back();
        match (around.map(|(_, end)| end), range.end()) {
            (Some(None), _) => true,
            (Some(Some(end)), Some(range_end)) => *end >= range_end && end > start,
            (Some(Some(_)), None) | (None, _) => false,
        }
    }

    fn insert_span(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        if let Some((before, before_end)) =
            self.spans.range::<[u8], _>((Bound::Unbounded, Bound::Included(start.as_ref()))).next_back()
            && before_end.as_ref().is_none_or(|before_end| *before_end >= start)
        {
            start = before.clone();
        }
        // Whatever begins within the new span becomes part of it.
        while let Some((next, next_end)) = self
            .spans
            .range::<[u8], _>((Bound::Included(start.as_ref()), Bound::Unbounded))
            .next()
            .filter(|(next, _)| end.as_ref().is_none_or(|end| *next <= end))
        {
            let next = next.clone();
            end = match (end, next_end.clone()) {
                (Some(end), Some(next_end)) => Some(end.max(next_end)),
                _ => None,
            };
            self.spans.remove(&next);
        }
        self.spans.insert(start, end);
    }
}
