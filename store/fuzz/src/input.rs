//! What a target is given.

/// Bytes of one input; what grows beyond is cut.
pub const INPUT_BYTES_MAX: usize = 256 << 10;
/// Parts of one input.
pub const PARTS_MAX: usize = 64;
/// Bytes before a part's own: kind and length.
const PART_HEADER_BYTES: usize = 6;

/// One part: a message, a file, a frame. What its kind means is the target's affair, and every number is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Which of the target's kinds.
    pub kind: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Part {
    /// A part.
    pub fn new(kind: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind, bytes: bytes.into() }
    }
}

/// A list of parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// The parts, in order.
    pub parts: Vec<Part>,
}

impl Input {
    /// An input of one part.
    pub fn one(kind: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { parts: vec![Part::new(kind, bytes)] }
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len() + PART_HEADER_BYTES).sum()
    }

    /// As it is kept in a file: of each part the kind (u16) and the length (u32), little-endian, and the bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bytes());
        for part in &self.parts {
            out.extend_from_slice(&part.kind.to_le_bytes());
            out.extend_from_slice(&(part.bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&part.bytes);
        }
        out
    }

    /// Reads what [`Input::encode`] wrote; `None` if it is not that.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let (kind, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            parts.push(Part::new(u16::from_le_bytes(*kind), body));
            bytes = rest;
        }
        Some(Self { parts })
    }

    /// Cuts what is too much.
    pub fn limit(&mut self) {
        self.parts.truncate(PARTS_MAX);
        let mut left = INPUT_BYTES_MAX;
        for part in &mut self.parts {
            part.bytes.truncate(left);
            left -= part.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_reads_back_and_a_cut_one_is_refused() {
        let input = Input { parts: vec![Part::new(7, *b"abc"), Part::new(0, []), Part::new(u16::MAX, *b"d")] };
        let bytes = input.encode();
        assert_eq!(Input::decode(&bytes), Some(input));
        assert_eq!(Input::decode(&bytes[..bytes.len() - 1]), None);
    }
}
