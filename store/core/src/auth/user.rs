use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::byte_string;

/// The name of the user that may do anything, and of the role that makes it so.
pub const ROOT: &str = "root";

/// A bcrypt hash, or nothing that any password matches. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(#[serde(with = "byte_string")] pub Bytes);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(..)")
    }
}

/// Somebody with a name (etcd `authpb.User`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, not empty.
    pub name: String,
    /// What a password is checked against; a user without can only be authenticated by certificate
    /// (etcd `UserAddOptions.no_password`).
    pub password: Option<PasswordHash>,
    /// The names of the roles, whether the role root among them exists or not.
    pub roles: BTreeSet<String>,
}

impl User {
    /// Whether the user may do anything.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(ROOT)
    }
}
