use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ClusterTime;

/// The SHA-256 of a simple token. The token itself is known to its bearer only: neither the log nor the disk has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    /// The first bytes, to tell tokens apart in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(formatter, "TokenHash({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// A simple token that was issued and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose it is.
    pub user: String,
    /// When it ends unless it is renewed; like a lease's, on the cluster's own clock.
    pub deadline: ClusterTime,
}
