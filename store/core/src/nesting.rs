//! How deep commands and their responses may stand in each other when they are decoded.
//!
//! Commands come from other members and from the log. Without a bound, a few bytes for each level would be enough to
//! overflow the stack of whoever decodes them.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, de::Error};

/// Levels of transactions in transactions, and of a caller around a command. What a client can send is bounded by its
/// own encoding: protobuf's messages stand at most 100 deep in each other, and a nested transaction takes two of them.
const LEVELS_MAX: usize = 64;

thread_local! {
    /// Levels that are being decoded on this thread; serde hands nothing down by itself.
    static LEVEL: Cell<usize> = const { Cell::new(0) };
}

/// Takes the level back when decoding ends, however it ends.
struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        LEVEL.set(LEVEL.get() - 1);
    }
}

/// Decodes one level more.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    if LEVEL.get() >= LEVELS_MAX {
        return Err(D::Error::custom(format!("more than {LEVELS_MAX} levels of nesting")));
    }
    LEVEL.set(LEVEL.get() + 1);
    let _entered = Entered;
    T::deserialize(deserializer)
}

/// The level itself is not encoded.
pub(crate) fn serialize<S: serde::Serializer, T: serde::Serialize>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.serialize(serializer)
}
