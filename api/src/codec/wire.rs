//! The protobuf wire format.

use super::{Error, MESSAGE_BYTES_MAX};

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
    Group,
}

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLarge(bytes.len()));
        }
        Ok(Self { rest: bytes })
    }

    /// Bytes not yet read.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Error::Protobuf("unexpected EOF"))?;
            self.rest = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Protobuf("integer overflow"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Error::Protobuf("unexpected EOF"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field's number and value, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0 && *number < 1 << 29);
        let number = number.ok_or(Error::Protobuf("illegal tag"))?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            2 => {
                let length = usize::try_from(self.varint()?)
                    .map_err(|_| Error::Protobuf("negative length found during unmarshaling"))?;
                Wire::Bytes(self.take(length)?)
            }
            3 => {
                self.skip_group()?;
                Wire::Group
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Error::Protobuf("illegal wireType")),
        };
        Ok(Some((number, value)))
    }

    /// Skips to the end of a group that has begun. Groups within are counted, not recursed into.
    fn skip_group(&mut self) -> Result<(), Error> {
        let mut depth = 1_usize;
        while depth > 0 {
            let key = self.varint()?;
            match key & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| Error::Protobuf("unexpected EOF"))?;
                    self.take(length)?;
                }
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.take(4)?),
                _ => return Err(Error::Protobuf("illegal wireType")),
            }
        }
        Ok(())
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint field.
pub(super) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// A fixed 64-bit field.
pub(super) fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A length-delimited field whose content `fill` appends; the length is put before it afterwards.
pub(super) fn put_nested(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    put_varint(out, u64::from(number) << 3 | 2);
    let start = out.len();
    out.push(0);
    fill(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_back() {
        let mut out = Vec::new();
        put_number(&mut out, 1, u64::MAX);
        put_bytes(&mut out, 2, b"abc");
        put_nested(&mut out, 3, |out| {
            out.extend_from_slice(&[7; 300]);
            Ok(())
        })
        .unwrap();
        put_fixed64(&mut out, 4, 5);
        out.extend_from_slice(&[0x2b, 0x08, 0x01, 0x2c]); // group 5
        let mut reader = Reader::new(&out).unwrap();
        assert_eq!(reader.next(), Ok(Some((1, Wire::Varint(u64::MAX)))));
        assert_eq!(reader.next(), Ok(Some((2, Wire::Bytes(b"abc")))));
        assert_eq!(reader.next(), Ok(Some((3, Wire::Bytes(&[7; 300])))));
        assert_eq!(reader.next(), Ok(Some((4, Wire::Fixed64(5)))));
        assert_eq!(reader.next(), Ok(Some((5, Wire::Group))));
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn truncated_fields_are_errors() {
        for bytes in [&[0x08][..], &[0x0a, 5, 1], &[0x09, 1], &[0x0d], &[0x0b], &[0x00, 0], &[0xff; 11], &[0x0c]] {
            assert!(Reader::new(bytes).unwrap().next().is_err(), "{bytes:x?}");
        }
    }
}
