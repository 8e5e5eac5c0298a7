//! Decoders with the bugs that decoders have, to see that they are found and what is made of them.

use anyhow::Result;

use super::Target;
use crate::input::Input;

/// Kind 0 believes a length, 1 allocates as much as it is told, 2 does not move on, 3 follows any depth, 4 overflows.
pub struct Planted;

impl Target for Planted {
    fn seeds(&self) -> Result<Vec<Input>> {
        let deep: Vec<u8> = std::iter::repeat_n(b'(', 40).chain(std::iter::repeat_n(b')', 40)).collect();
        Ok(match std::env::var("XEBEC_FUZZ_PLANT").as_deref() {
            Ok("panic") => vec![Input::one(0, *b"\x05\0hello")],
            Ok("allocation") => vec![Input::one(1, *b"\x05\0\0\0hello")],
            Ok("hang") => vec![Input::one(2, *b"\x02a\x02b\x01")],
            Ok("stack") => vec![Input::one(3, deep)],
            _ => vec![Input::default()],
        })
    }

    fn run(&mut self, input: &Input) -> u64 {
        let Some(part) = input.parts.first() else { return 0 };
        match part.kind {
            0 => believes_a_length(&part.bytes),
            1 => allocates(&part.bytes),
            2 => does_not_move_on(&part.bytes),
            3 => nests(&part.bytes, 0),
            _ => 0,
        }
    }
}

fn believes_a_length(bytes: &[u8]) -> u64 {
    match bytes.split_first_chunk() {
        Some((length, rest)) => rest[..usize::from(u16::from_le_bytes(*length))].len() as u64,
        None => 0,
    }
}

fn allocates(bytes: &[u8]) -> u64 {
    match bytes.split_first_chunk() {
        Some((length, rest)) => {
            let mut copy: Vec<u8> = Vec::with_capacity(u32::from_le_bytes(*length) as usize);
            copy.extend_from_slice(&rest[..rest.len().min(copy.capacity())]);
            copy.len() as u64
        }
        None => 0,
    }
}

fn does_not_move_on(bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        at += usize::from(std::hint::black_box(bytes[at]));
    }
    at as u64
}

/// Takes 32 KiB of stack a level.
fn nests(bytes: &[u8], depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 4096]);
    match bytes.split_first() {
        Some((b'(', rest)) => nests(rest, depth + 1) + frame[0].min(1),
        _ => depth,
    }
}
