use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::AuthError;
use crate::spans::Spans;
use crate::{KeyRange, byte_string};

/// What a permission allows (etcd `authpb.Permission.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    /// To see values.
    Read,
    /// To change them.
    Write,
    /// Both.
    ReadWrite,
}

/// What a request wants to do to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// See values.
    Read,
    /// Put or delete.
    Write,
}

/// A permission over a range, kept as it was given so that it can be named again (etcd `authpb.Permission`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What it allows.
    pub kind: PermissionKind,
    /// The first key.
    #[serde(with = "byte_string")]
    pub key: Bytes,
    /// As in a Range request: nothing for one key, `\0` for no end.
    #[serde(with = "byte_string")]
    pub range_end: Bytes,
}

impl Permission {
    /// The keys it covers.
    pub fn range(&self) -> KeyRange {
        KeyRange::from_wire(self.key.clone(), self.range_end.clone())
    }

    /// Whether the range can mean any key (etcd `isValidPermissionRange`).
    pub(super) fn is_valid(&self) -> bool {
        !self.key.is_empty() && !self.range().is_empty()
    }

    fn place(&self) -> (&Bytes, &Bytes) {
        (&self.key, &self.range_end)
    }
}

/// A named set of permissions (etcd `authpb.Role`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The name, not empty.
    pub name: String,
    /// In order of key and end, at most one for each pair.
    pub permissions: Vec<Permission>,
}

impl Role {
    /// A role that allows nothing.
    pub(super) fn new(name: &str) -> Role {
        Role { name: name.to_owned(), permissions: Vec::new() }
    }

    /// Adds a permission, or changes the kind of the one for the same range. (etcd may add it a second time if several
    /// of the role's ranges begin with the same key, and the wider kind then wins. A role that was taken over from such
    /// an etcd is put right here.)
    pub(super) fn grant(&mut self, permission: Permission) {
        self.permissions.retain(|known| known.place() != permission.place());
        let at = self.permissions.partition_point(|known| known.place() < permission.place());
        self.permissions.insert(at, permission);
    }

    /// Takes the permission for exactly this range away.
    pub(super) fn revoke(&mut self, key: &Bytes, range_end: &Bytes) -> Result<(), AuthError> {
        let before = self.permissions.len();
        self.permissions.retain(|known| known.place() != (key, range_end));
        if self.permissions.len() < before { Ok(()) } else { Err(AuthError::PermissionNotGranted) }
    }
}

/// All that a user's roles allow together: ranges that touch are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    read: Spans,
    write: Spans,
}

impl Merged {
    pub(super) fn of<'r>(roles: impl Iterator<Item = &'r Role>) -> Merged {
        let mut merged = Merged::default();
        for permission in roles.flat_map(|role| &role.permissions) {
            if permission.kind != PermissionKind::Write {
                merged.read.insert(&permission.range());
            }
            if permission.kind != PermissionKind::Read {
                merged.write.insert(&permission.range());
            }
        }
        merged
    }

    pub(super) fn allows(&self, range: &KeyRange, access: Access) -> bool {
        let spans = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        spans.covers(range)
    }
}
