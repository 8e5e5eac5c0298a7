//! How an input becomes another.

use xebec_store_dice::Dice;

use crate::{
    generate::NUMBERS,
    input::{INPUT_BYTES_MAX, Input, Part},
    protobuf::{self, Field, Value},
};

/// Changes that one step makes at most.
const CHANGES_MAX: usize = 6;
/// Bytes repeated or inserted at once.
const RUN_BYTES_MAX: usize = 64;
/// The most often that bytes are repeated, as a power of two.
const REPETITIONS_LOG_MAX: usize = 14;
/// How deep a message is put into itself at once: far beyond what any decoder should follow.
const NESTING_LEVELS: usize = 300;

/// Changes an input; `others` are inputs whose parts may be taken over, `words` what texts of the target's kind consist of.
pub fn mutate(input: &mut Input, others: &[Input], words: &[&[u8]], dice: &mut Dice) {
    for _ in 0..=dice.below(CHANGES_MAX) {
        match dice.below(10) {
            0 => change_parts(input, others, dice),
            1..=4 => with_part(input, dice, change_fields),
            5 if !words.is_empty() => with_part(input, dice, |bytes, dice| {
                let word = dice.word(words);
                insert(bytes, word, dice);
            }),
            _ => with_part(input, dice, change_bytes),
        }
    }
    input.limit();
}

fn with_part(input: &mut Input, dice: &mut Dice, change: impl FnOnce(&mut Vec<u8>, &mut Dice)) {
    if input.parts.is_empty() {
        input.parts.push(Part::default());
    }
    let place = dice.below(input.parts.len());
    change(&mut input.parts[place].bytes, dice);
}

/// Adds, removes, copies, moves or renames parts.
fn change_parts(input: &mut Input, others: &[Input], dice: &mut Dice) {
    let place = dice.below(input.parts.len().max(1));
    match dice.below(6) {
        0 if input.parts.len() > 1 => {
            input.parts.remove(place);
        }
        1 if !input.parts.is_empty() => {
            let copy = input.parts[place].clone();
            input.parts.insert(dice.below(input.parts.len() + 1), copy);
        }
        2 if input.parts.len() > 1 => {
            let other = dice.below(input.parts.len());
            input.parts.swap(place, other);
        }
        3 if !input.parts.is_empty() => {
            let kind = &mut input.parts[place].kind;
            *kind = if dice.one_in(2) { kind.wrapping_add(1) } else { dice.next() as u16 };
        }
        _ => {
            let Some(other) = others.get(dice.below(others.len().max(1))) else { return };
            let Some(part) = other.parts.get(dice.below(other.parts.len().max(1))) else { return };
            if dice.one_in(2) && !input.parts.is_empty() {
                splice(&mut input.parts[place].bytes, &part.bytes, dice);
            } else {
                input.parts.insert(place, part.clone());
            }
        }
    }
}

/// The beginning of one and the end of the other.
fn splice(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    bytes.truncate(dice.below(bytes.len() + 1));
    bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
}

fn insert(bytes: &mut Vec<u8>, word: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    bytes.splice(at..at, word.iter().copied());
}

/// Changes bytes that mean nothing in particular.
fn change_bytes(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len().max(1));
    match dice.below(10) {
        0 => bytes.truncate(at),
        1 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        2 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
        3 if !bytes.is_empty() => bytes[at] = *dice.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        4 if !bytes.is_empty() => {
            let to = (at + 1 + dice.below(RUN_BYTES_MAX)).min(bytes.len());
            bytes.drain(at..to);
        }
        5 if !bytes.is_empty() => {
            let to = (at + 1 + dice.below(RUN_BYTES_MAX)).min(bytes.len());
            let run = bytes[at..to].to_vec();
            // Rarely very often: what nests by being repeated shall nest deep.
            let times = if dice.one_in(16) { 1 << dice.below(REPETITIONS_LOG_MAX) } else { 1 + dice.below(8) };
            bytes.splice(at..at, run.repeat(times.min(INPUT_BYTES_MAX / run.len())));
        }
        6 => {
            let run: Vec<u8> = (0..=dice.below(8)).map(|_| dice.next() as u8).collect();
            insert(bytes, &run, dice);
        }
        7 => overwrite(bytes, at, &dice.pick(&NUMBERS).to_le_bytes()[..*dice.pick(&[2, 4, 8])]),
        8 => overwrite(bytes, at, &dice.pick(&NUMBERS).to_be_bytes()),
        _ => {
            let length = (bytes.len() as u64).wrapping_add_signed(dice.below(5) as i64 - 2);
            overwrite(bytes, at, &length.to_le_bytes());
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(with) {
        *place = *byte;
    }
}

/// Changes a field if the bytes are a message; else bytes.
fn change_fields(bytes: &mut Vec<u8>, dice: &mut Dice) {
    match protobuf::parse(bytes) {
        Some(mut fields) if !fields.is_empty() => {
            change_message(&mut fields, dice);
            *bytes = protobuf::write(&fields);
        }
        _ => change_bytes(bytes, dice),
    }
}

fn change_message(fields: &mut Vec<Field>, dice: &mut Dice) {
    let place = dice.below(fields.len());
    if let Value::Message(nested) = &mut fields[place].value
        && !nested.is_empty()
        && !dice.one_in(3)
    {
        return change_message(nested, dice);
    }
    match dice.below(8) {
        0 => {
            fields.remove(place);
        }
        1 => fields.extend(std::iter::repeat_n(fields[place].clone(), 1 + dice.below(4))),
        2 => fields.extend(std::iter::repeat_n(fields[place].clone(), 1 << dice.below(10))),
        3 => fields[place].number = *dice.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100, u64::MAX >> 3]),
        4 if dice.one_in(8) => nest(fields, place),
        5 => {
            let other = dice.below(fields.len());
            fields[place].value = fields[other].value.clone();
        }
        _ => change_value(&mut fields[place].value, dice),
    }
}

/// Puts a message into itself, again and again.
fn nest(fields: &mut Vec<Field>, place: usize) {
    let number = fields[place].number;
    for _ in 0..NESTING_LEVELS {
        *fields = vec![Field { number, value: Value::Message(std::mem::take(fields)) }];
    }
}

fn change_value(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Varint(number) => {
            *number = match dice.below(4) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => *dice.pick(&NUMBERS) as u64,
            };
        }
        Value::Fixed64(bytes) => *bytes = dice.pick(&NUMBERS).to_le_bytes(),
        Value::Fixed32(bytes) => *bytes = (*dice.pick(&NUMBERS) as i32).to_le_bytes(),
        Value::Bytes(bytes) => change_bytes(bytes, dice),
        Value::Message(fields) => *value = Value::Bytes(protobuf::write(fields)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_changes_and_they_stay_within_bounds() {
        let seed = Input { parts: vec![Part::new(1, *b"\x0a\x01a\x12\x01b"), Part::new(2, *b"text")] };
        let run = |seed_number: u64| {
            let mut dice = Dice::new(seed_number);
            let mut input = seed.clone();
            for _ in 0..300 {
                mutate(&mut input, std::slice::from_ref(&seed), &[b"word"], &mut dice);
            }
            input
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
        assert!(run(5).parts.len() <= crate::input::PARTS_MAX);
    }
}
