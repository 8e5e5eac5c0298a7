//! Users and roles as etcd's snapshots have them (`authpb`), and back.

use bytes::Bytes;
use prost::Message;
use xebec_proto::authpb::{self, permission::Type};
use xebec_store_core::auth::{AuthChange, AuthState, PasswordHash, Permission, PermissionKind, Role, User};
use xebec_store_snapshot::AuthRecords;

/// Everything but tokens, which end with the cluster.
pub(crate) fn records(state: &AuthState) -> AuthRecords {
    let user = |user: &User| authpb::User {
        name: Bytes::copy_from_slice(user.name.as_bytes()),
        password: user.password.as_ref().map(|hash| hash.0.clone()).unwrap_or_default(),
        roles: user.roles.iter().cloned().collect(),
        options: Some(authpb::UserAddOptions { no_password: user.password.is_none() }),
    };
    let role = |role: &Role| authpb::Role {
        name: Bytes::copy_from_slice(role.name.as_bytes()),
        key_permission: role.permissions.iter().map(permission).collect(),
    };
    let named = |name: &str, bytes: Vec<u8>| (Bytes::copy_from_slice(name.as_bytes()), Bytes::from(bytes));
    AuthRecords {
        enabled: state.is_enabled(),
        revision: state.revision(),
        users: state.users().map(|it| named(&it.name, user(it).encode_to_vec())).collect(),
        roles: state.roles().map(|it| named(&it.name, role(it).encode_to_vec())).collect(),
    }
}

fn permission(permission: &Permission) -> authpb::Permission {
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission { perm_type: kind.into(), key: permission.key.clone(), range_end: permission.range_end.clone() }
}

/// The changes that make an empty state what the records say; `None` if a record is malformed.
pub(crate) fn changes(records: &AuthRecords) -> Option<Vec<AuthChange>> {
    let mut changes = Vec::new();
    for (_, bytes) in &records.roles {
        let role = authpb::Role::decode(bytes.clone()).ok()?;
        let mut permissions = Vec::new();
        for it in role.key_permission {
            let kind = match Type::try_from(it.perm_type).ok()? {
                Type::Read => PermissionKind::Read,
                Type::Write => PermissionKind::Write,
                Type::Readwrite => PermissionKind::ReadWrite,
            };
            permissions.push(Permission { kind, key: it.key, range_end: it.range_end });
        }
        permissions.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
        changes.push(AuthChange::RoleSet(Role { name: text(&role.name)?, permissions }));
    }
    for (_, bytes) in &records.users {
        let user = authpb::User::decode(bytes.clone()).ok()?;
        let has_password = !user.password.is_empty() && !user.options.is_some_and(|options| options.no_password);
        changes.push(AuthChange::UserSet(User {
            name: text(&user.name)?,
            password: has_password.then_some(PasswordHash(user.password)),
            roles: user.roles.into_iter().collect(),
        }));
    }
    if records.revision > 0 {
        changes.push(AuthChange::Status { enabled: records.enabled, revision: records.revision });
    }
    Some(changes)
}

fn text(bytes: &Bytes) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_roles_come_back_from_etcds_encoding() {
        let permission = |kind, key: &'static [u8]| Permission {
            kind,
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(b"z"),
        };
        let expected = vec![
            AuthChange::RoleSet(Role {
                name: "reader".into(),
                permissions: vec![permission(PermissionKind::Read, b"a"), permission(PermissionKind::ReadWrite, b"b")],
            }),
            AuthChange::UserSet(User {
                name: "ann".into(),
                password: Some(PasswordHash("$2a$10$hash".into())),
                roles: ["reader".to_owned()].into(),
            }),
            AuthChange::UserSet(User { name: "cert".into(), password: None, roles: Default::default() }),
            AuthChange::Status { enabled: true, revision: 9 },
        ];
        let mut state = AuthState::default();
        expected.iter().for_each(|change| state.absorb(change));
        assert_eq!(changes(&records(&state)).unwrap(), expected);
    }
}
