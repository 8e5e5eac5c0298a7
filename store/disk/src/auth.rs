//! Users, roles and tokens in `meta`: a record each, so that a change costs what it changes. All of them are in memory
//! while the keyspace is open, since every request asks.

use rocksdb::{Direction, IteratorMode};
use serde::{Deserialize, Serialize};
use xebec_store_core::auth::{AuthChange, AuthState, Role, Token, TokenHash, User};

use crate::DiskError;
use crate::database::Database;
use crate::options::Column;

/// What all these records' names begin with.
const PREFIX: &[u8] = b"auth/";
const ROLE: &[u8] = b"auth/role/";
const STATUS: &[u8] = b"auth/status";
const TOKEN: &[u8] = b"auth/token/";
const USER: &[u8] = b"auth/user/";

#[derive(Serialize, Deserialize)]
struct Status {
    enabled: bool,
    revision: u64,
}

/// The record that a change sets, or removes.
pub(crate) fn record(change: &AuthChange) -> (Vec<u8>, Option<Vec<u8>>) {
    match change {
        AuthChange::Status { enabled, revision } => {
            (STATUS.to_vec(), Some(encode(&Status { enabled: *enabled, revision: *revision })))
        }
        AuthChange::UserSet(user) => ([USER, user.name.as_bytes()].concat(), Some(encode(user))),
        AuthChange::UserRemoved(name) => ([USER, name.as_bytes()].concat(), None),
        AuthChange::RoleSet(role) => ([ROLE, role.name.as_bytes()].concat(), Some(encode(role))),
        AuthChange::RoleRemoved(name) => ([ROLE, name.as_bytes()].concat(), None),
        AuthChange::TokenSet(hash, token) => ([TOKEN, &hash.0].concat(), Some(encode(token))),
        AuthChange::TokenRemoved(hash) => ([TOKEN, &hash.0].concat(), None),
    }
}

/// Reads all of it.
pub(crate) fn load(database: &Database) -> Result<AuthState, DiskError> {
    let mut state = AuthState::default();
    let start = IteratorMode::From(PREFIX, Direction::Forward);
    for entry in database.db().iterator_cf(database.column(Column::Meta), start) {
        let (name, value) = entry.map_err(|error| database.error(error))?;
        if !name.starts_with(PREFIX) {
            break;
        }
        let change = parse(&name, &value).ok_or_else(|| database.malformed(Column::Meta))?;
        state.absorb(&change);
    }
    Ok(state)
}

fn parse(name: &[u8], value: &[u8]) -> Option<AuthChange> {
    if name == STATUS {
        let Status { enabled, revision } = decode(value)?;
        return Some(AuthChange::Status { enabled, revision });
    }
    if let Some(hash) = name.strip_prefix(TOKEN) {
        return Some(AuthChange::TokenSet(TokenHash(hash.try_into().ok()?), decode::<Token>(value)?));
    }
    if let Some(role) = name.strip_prefix(ROLE) {
        return decode::<Role>(value).filter(|read| read.name.as_bytes() == role).map(AuthChange::RoleSet);
    }
    let user = name.strip_prefix(USER)?;
    decode::<User>(value).filter(|read| read.name.as_bytes() == user).map(AuthChange::UserSet)
}

fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    bincode::serialize(record).expect("users, roles and tokens are plain data, which bincode can always write")
}

fn decode<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    bincode::deserialize(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_store_core::ClusterTime;
    use xebec_store_core::auth::PasswordHash;

    #[test]
    fn records_read_back_and_others_are_malformed() {
        let user = User {
            name: "ann".into(),
            password: Some(PasswordHash("$2a$04$x".into())),
            roles: ["root".to_owned()].into(),
        };
        let token = Token { user: "ann".into(), deadline: ClusterTime(9) };
        let changes = [
            AuthChange::Status { enabled: true, revision: 7 },
            AuthChange::UserSet(user),
            AuthChange::RoleSet(Role { name: "r".into(), permissions: Vec::new() }),
            AuthChange::TokenSet(TokenHash([3; 32]), token),
        ];
        for change in changes {
            let (name, value) = record(&change);
            assert_eq!(parse(&name, &value.unwrap()), Some(change));
        }
        assert_eq!(parse(b"auth/user/bob", &record(&AuthChange::RoleRemoved("bob".into())).0), None);
        assert_eq!(parse(b"auth/other", b""), None);
    }
}
