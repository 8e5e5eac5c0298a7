//! How Raft's types become bytes, on disk and between members: a format version, then bincode.
//!
//! bincode is positional: every change of a type that stands here needs a new format version.

use openraft::EntryPayload;
use serde::{Serialize, de::DeserializeOwned};
use xebec_store_core::{Command, Op, Txn};

use crate::types::Entry;

/// Version of the encoding, in front of every value.
pub(crate) const FORMAT: u8 = 3;
/// Bytes an entry or a command weighs apart from its keys and values, roughly.
const FIXED_BYTES: usize = 64;

/// A value that could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Written by a version of this program that does things differently.
    #[error("unknown format {0}, this version knows {FORMAT}")]
    Format(u8),
    /// Nothing there.
    #[error("empty value")]
    Empty,
    /// The bytes are not what they should be.
    #[error(transparent)]
    Bincode(#[from] bincode::Error),
}

pub(crate) fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    out.push(FORMAT);
    Ok(bincode::serialize_into(out, value)?)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.split_first() {
        None => Err(WireError::Empty),
        Some((&FORMAT, body)) => Ok(bincode::deserialize(body)?),
        Some((&format, _)) => Err(WireError::Format(format)),
    }
}

/// Bytes an entry occupies in memory, roughly.
pub(crate) fn entry_weight_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank | EntryPayload::Membership(_) => FIXED_BYTES,
        EntryPayload::Normal(batch) => FIXED_BYTES + batch.0.iter().map(weight_bytes).sum::<usize>(),
    }
}

/// Bytes a command weighs, roughly: what bounds batches and caches.
pub(crate) fn weight_bytes(command: &Command) -> usize {
    FIXED_BYTES
        + match command {
            Command::Put(put) => put.key.len() + put.value.len(),
            Command::Txn(txn) => txn_weight_bytes(txn),
            Command::LeaseRevoke(revoke) => revoke.ids.len() * 8,
            Command::LeaseCheckpoint(checkpoint) => checkpoint.deadlines.len() * 16,
            Command::SetClusterRecord { value, .. } => value.as_ref().map_or(0, bytes::Bytes::len),
            Command::Authorized(authorized) => authorized.caller.user.len() + weight_bytes(&authorized.command),
            _ => 0,
        }
}

fn txn_weight_bytes(txn: &Txn) -> usize {
    let ops = txn.success.iter().chain(&txn.failure).map(|op| {
        FIXED_BYTES
            + match op {
                Op::Put(put) => put.key.len() + put.value.len(),
                Op::Txn(txn) => txn_weight_bytes(txn),
                Op::Range(_) | Op::DeleteRange(_) => 0,
            }
    });
    ops.sum::<usize>() + txn.compares.len() * FIXED_BYTES
}

#[cfg(test)]
mod tests {
    use xebec_store_core::{Revision, auth::Caller};

    use super::*;

    /// A transaction that stands in so many others.
    fn nested(levels: usize) -> Command {
        let innermost = Txn::default();
        Command::Txn((0..levels).fold(innermost, |txn, _| Txn { success: vec![Op::Txn(txn)], ..Txn::default() }))
    }

    /// Found by the fuzzer: 120 kB of callers around callers overflowed the stack of whoever decoded them.
    #[test]
    fn commands_nest_as_deep_as_clients_can_make_them_and_no_deeper() {
        // protobuf's messages stand at most 100 deep in each other, and a nested transaction takes two.
        let deepest = nested(50).by(Caller { user: "ann".to_owned(), auth_revision: 7 });
        assert_eq!(decode::<Command>(&encode(&deepest).unwrap()).unwrap(), deepest);
        let refusal = decode::<Command>(&encode(&nested(100)).unwrap()).unwrap_err().to_string();
        assert!(refusal.contains("levels of nesting"), "{refusal}");
        let one =
            encode(&Command::Compact { revision: Revision(1) }.by(Caller { user: String::new(), auth_revision: 1 }));
        let one = one.unwrap();
        let (format, rest) = one.split_at(1);
        // The variant, an empty name, the revision of users and roles; then another command.
        let caller = rest[..20].repeat(100_000);
        let refusal = decode::<Command>(&[format, &caller].concat()).unwrap_err().to_string();
        assert!(refusal.contains("levels of nesting"), "{refusal}");
        // Levels are given back, after a refusal too.
        assert_eq!(decode::<Command>(&encode(&deepest).unwrap()).unwrap(), deepest);
    }
}
