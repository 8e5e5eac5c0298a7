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
