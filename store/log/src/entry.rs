//! What the log stores.

use bytes::Bytes;

/// An entry of the log. Clones must be cheap: the recent tail is kept in memory as values.
pub trait LogEntry: Clone + Send + Sync + 'static {
    /// Position in the log.
    fn index(&self) -> u64;

    /// Appends the encoded entry to `out`.
    ///
    /// # Errors
    /// A message saying why the entry cannot be encoded.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String>;

    /// Decodes what [`LogEntry::encode`] wrote. Implementations may keep slices of `bytes`.
    ///
    /// # Errors
    /// A message saying what is wrong with the bytes.
    fn decode(bytes: Bytes) -> Result<Self, String>;

    /// Bytes this entry occupies in memory, roughly; bounds the tail cache.
    fn weight_bytes(&self) -> usize;
}
