use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    AuthChange, AuthError, AuthState, PasswordHash, Permission, ROOT, Role, TOKENS_MAX, Token, TokenHash, User,
};
use crate::{ClusterTime, byte_string};

/// A change of users, roles or tokens, as it stands in the log.
///
/// The variant order is part of the log's format: append, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    /// Turns authentication on.
    Enable,
    /// Turns it off; all tokens end.
    Disable,
    /// Adds a user.
    UserAdd {
        /// Its name.
        name: String,
        /// Its password; none for a user who needs a certificate.
        password: Option<PasswordHash>,
    },
    /// Deletes a user; their tokens end.
    UserDelete {
        /// Its name.
        name: String,
    },
    /// Changes a user's password; their tokens end. A user without password stays so.
    UserChangePassword {
        /// Its name.
        name: String,
        /// The new password.
        password: PasswordHash,
    },
    /// Gives a user a role.
    UserGrantRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// Adds a role.
    RoleAdd {
        /// Its name.
        name: String,
    },
    /// Deletes a role, and takes it from all users.
    RoleDelete {
        /// Its name.
        name: String,
    },
    /// Adds a permission to a role, or changes its kind.
    RoleGrantPermission {
        /// The role.
        role: String,
        /// The permission; a request may lack it.
        permission: Option<Permission>,
    },
    /// Takes a permission from a role.
    RoleRevokePermission {
        /// The role.
        role: String,
        /// The permission's key.
        #[serde(with = "byte_string")]
        key: Bytes,
        /// The permission's end.
        #[serde(with = "byte_string")]
        range_end: Bytes,
    },
    /// Issues a token to a user whose password was right.
    Authenticate {
        /// The user.
        user: String,
        /// The auth revision at which the password was right.
        checked_revision: u64,
        /// The token.
        token: TokenHash,
        /// How long it lives without use.
        ttl_millis: u64,
        /// The leader's time at the proposal.
        now: ClusterTime,
    },
    /// Extends the life of a token that was used.
    RenewToken {
        /// The token.
        token: TokenHash,
        /// How long it lives from now on.
        ttl_millis: u64,
        /// The leader's time at the proposal.
        now: ClusterTime,
    },
    /// Ends the tokens whose time is over.
    ExpireTokens {
        /// The leader's time at the proposal.
        now: ClusterTime,
    },
}

impl AuthCommand {
    /// Sets the time in it.
    pub(crate) fn stamp(&mut self, time: ClusterTime) {
        match self {
            AuthCommand::Authenticate { now, .. }
            | AuthCommand::RenewToken { now, .. }
            | AuthCommand::ExpireTokens { now } => *now = time,
            _ => {}
        }
    }

    /// The time in it, if it has one.
    pub(crate) fn now(&self) -> Option<ClusterTime> {
        match self {
            AuthCommand::Authenticate { now, .. }
            | AuthCommand::RenewToken { now, .. }
            | AuthCommand::ExpireTokens { now } => Some(*now),
            _ => None,
        }
    }
}

/// What a command changes. Whoever asked for it was permitted to (etcd `server/auth/store.go`).
pub(crate) fn evaluate(state: &AuthState, command: &AuthCommand) -> Result<Vec<AuthChange>, AuthError> {
    let mut changes = match command {
        AuthCommand::Enable if state.is_enabled() => return Ok(Vec::new()),
        AuthCommand::Enable => {
            state.has_root()?;
            // Not a change of users and roles: the revision stays.
            return Ok(vec![AuthChange::Status { enabled: true, revision: state.revision() }]);
        }
        AuthCommand::Disable if !state.is_enabled() => return Ok(Vec::new()),
        AuthCommand::Disable => {
            let mut changes: Vec<AuthChange> =
                state.tokens().map(|(hash, _)| AuthChange::TokenRemoved(*hash)).collect();
            changes.push(AuthChange::Status { enabled: false, revision: state.revision() + 1 });
            return Ok(changes);
        }
        AuthCommand::UserAdd { name, password } => user_add(state, name, password.as_ref())?,
        AuthCommand::UserDelete { name } => user_delete(state, name)?,
        AuthCommand::UserChangePassword { name, password } => change_password(state, name, password)?,
        AuthCommand::UserGrantRole { user, role } => grant_role(state, user, role)?,
        AuthCommand::UserRevokeRole { user, role } => revoke_role(state, user, role)?,
        AuthCommand::RoleAdd { name } => role_add(state, name)?,
        AuthCommand::RoleDelete { name } => role_delete(state, name)?,
        AuthCommand::RoleGrantPermission { role, permission } => grant_permission(state, role, permission.as_ref())?,
        AuthCommand::RoleRevokePermission { role, key, range_end } => {
            let mut role = state.role(role).ok_or(AuthError::RoleNotFound)?.clone();
            role.revoke(key, range_end)?;
            vec![AuthChange::RoleSet(role)]
        }
        AuthCommand::Authenticate { user, checked_revision, token, ttl_millis, now } => {
            return authenticate(state, user, *checked_revision, *token, now.plus_millis(*ttl_millis));
        }
        AuthCommand::RenewToken { token, ttl_millis, now } => {
            return Ok(renew(state, token, now.plus_millis(*ttl_millis)));
        }
        AuthCommand::ExpireTokens { now } => {
            let expired = state.tokens().filter(|(_, token)| token.deadline <= *now);
            return Ok(expired.map(|(hash, _)| AuthChange::TokenRemoved(*hash)).collect());
        }
    };
    if !changes.is_empty() {
        changes.push(AuthChange::Status { enabled: state.is_enabled(), revision: state.revision() + 1 });
    }
    Ok(changes)
}

fn user_add(state: &AuthState, name: &str, password: Option<&PasswordHash>) -> Result<Vec<AuthChange>, AuthError> {
    if name.is_empty() {
        return Err(AuthError::UserEmpty);
    }
    if state.user(name).is_some() {
        return Err(AuthError::UserAlreadyExists);
    }
    let user = User { name: name.to_owned(), password: password.cloned(), roles: Default::default() };
    Ok(vec![AuthChange::UserSet(user)])
}

fn user_delete(state: &AuthState, name: &str) -> Result<Vec<AuthChange>, AuthError> {
    if state.is_enabled() && name == ROOT {
        return Err(AuthError::InvalidAuthManagement);
    }
    state.user(name).ok_or(AuthError::UserNotFound)?;
    let mut changes = vec![AuthChange::UserRemoved(name.to_owned())];
    changes.extend(end_tokens(state, name));
    Ok(changes)
}

fn change_password(state: &AuthState, name: &str, password: &PasswordHash) -> Result<Vec<AuthChange>, AuthError> {
    let mut user = state.user(name).ok_or(AuthError::UserNotFound)?.clone();
    user.password = user.password.map(|_| password.clone());
    let mut changes = vec![AuthChange::UserSet(user)];
    changes.extend(end_tokens(state, name));
    Ok(changes)
}

fn end_tokens(state: &AuthState, user: &str) -> impl Iterator<Item = AuthChange> {
    state.tokens().filter(move |(_, token)| token.user == user).map(|(hash, _)| AuthChange::TokenRemoved(*hash))
}

fn grant_role(state: &AuthState, user: &str, role: &str) -> Result<Vec<AuthChange>, AuthError> {
    let mut user = state.user(user).ok_or(AuthError::UserNotFound)?.clone();
    if role != ROOT {
        state.role(role).ok_or(AuthError::RoleNotFound)?;
    }
    // Granting again changes nothing, the revision included.
    Ok(if user.roles.insert(role.to_owned()) { vec![AuthChange::UserSet(user)] } else { Vec::new() })
}

fn revoke_role(state: &AuthState, user: &str, role: &str) -> Result<Vec<AuthChange>, AuthError> {
    if state.is_enabled() && user == ROOT && role == ROOT {
        return Err(AuthError::InvalidAuthManagement);
    }
    let mut user = state.user(user).ok_or(AuthError::UserNotFound)?.clone();
    if !user.roles.remove(role) {
        return Err(AuthError::RoleNotGranted);
    }
    Ok(vec![AuthChange::UserSet(user)])
}

fn role_add(state: &AuthState, name: &str) -> Result<Vec<AuthChange>, AuthError> {
    if name.is_empty() {
        return Err(AuthError::RoleEmpty);
    }
    if state.role(name).is_some() {
        return Err(AuthError::RoleAlreadyExists);
    }
    Ok(vec![AuthChange::RoleSet(Role::new(name))])
}

fn role_delete(state: &AuthState, name: &str) -> Result<Vec<AuthChange>, AuthError> {
    if state.is_enabled() && name == ROOT {
        return Err(AuthError::InvalidAuthManagement);
    }
    state.role(name).ok_or(AuthError::RoleNotFound)?;
    let mut changes = vec![AuthChange::RoleRemoved(name.to_owned())];
    for user in state.users() {
        let mut user = user.clone();
        if user.roles.remove(name) {
            changes.push(AuthChange::UserSet(user));
        }
    }
    Ok(changes)
}

fn grant_permission(
    state: &AuthState,
    role: &str,
    permission: Option<&Permission>,
) -> Result<Vec<AuthChange>, AuthError> {
    let permission = permission.ok_or(AuthError::PermissionNotGiven)?;
    if !permission.is_valid() {
        return Err(AuthError::InvalidAuthManagement);
    }
    let mut role = state.role(role).ok_or(AuthError::RoleNotFound)?.clone();
    role.grant(permission.clone());
    Ok(vec![AuthChange::RoleSet(role)])
}

fn authenticate(
    state: &AuthState,
    user: &str,
    checked_revision: u64,
    hash: TokenHash,
    deadline: ClusterTime,
) -> Result<Vec<AuthChange>, AuthError> {
    if !state.is_enabled() {
        return Err(AuthError::AuthNotEnabled);
    }
    if checked_revision != state.revision() {
        // The password may be another one by now: whoever checked it has to check again.
        return Err(AuthError::OldRevision);
    }
    if state.user(user).is_none_or(|user| user.password.is_none()) {
        return Err(AuthError::AuthFailed);
    }
    let mut changes = Vec::new();
    if state.token_count() >= TOKENS_MAX
        && let Some((first, _)) = state.tokens().min_by_key(|(hash, token)| (token.deadline, **hash))
    {
        changes.push(AuthChange::TokenRemoved(*first));
    }
    changes.push(AuthChange::TokenSet(hash, Token { user: user.to_owned(), deadline }));
    Ok(changes)
}

/// A token that has ended meanwhile stays so, and a deadline never moves back.
fn renew(state: &AuthState, hash: &TokenHash, deadline: ClusterTime) -> Vec<AuthChange> {
    match state.token(hash) {
        Some(token) if token.deadline < deadline => {
            vec![AuthChange::TokenSet(*hash, Token { deadline, ..token.clone() })]
        }
        _ => Vec::new(),
    }
}
