use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::permission::Merged;
use super::{Access, AuthError, Caller, ROOT, Role, Token, TokenHash, User};
use crate::{ClusterTime, KeyRange};

/// The auth revision of a store that was never told anything (etcd counts from 1, so that 0 can mean "nobody").
pub const FIRST_AUTH_REVISION: u64 = 1;

/// Simple tokens that may be alive at a time. A further one ends the one that would have ended first.
pub const TOKENS_MAX: usize = 100_000;

/// One change of the [`AuthState`]: what a keyspace persists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// Whether authentication is on, and how often users and roles have changed.
    Status {
        /// Whether it is on.
        enabled: bool,
        /// The new revision.
        revision: u64,
    },
    /// A user is new or different.
    UserSet(User),
    /// A user is gone.
    UserRemoved(String),
    /// A role is new or different.
    RoleSet(Role),
    /// A role is gone.
    RoleRemoved(String),
    /// A token is new or renewed.
    TokenSet(TokenHash, Token),
    /// A token has ended.
    TokenRemoved(TokenHash),
}

/// A user with what their roles allow together.
#[derive(Clone, Debug)]
struct Known {
    user: User,
    merged: Merged,
}

/// Users, roles and tokens at one moment. Clones share everything.
#[derive(Clone, Debug)]
pub struct AuthState {
    enabled: bool,
    revision: u64,
    users: OrdMap<String, Arc<Known>>,
    roles: OrdMap<String, Arc<Role>>,
    tokens: OrdMap<TokenHash, Token>,
}

impl Default for AuthState {
    fn default() -> Self {
        AuthState {
            enabled: false,
            revision: FIRST_AUTH_REVISION,
            users: OrdMap::new(),
            roles: OrdMap::new(),
            tokens: OrdMap::new(),
        }
    }
}

impl AuthState {
    /// Whether callers have to say who they are.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How often users and roles have changed, from [`FIRST_AUTH_REVISION`].
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|known| &known.user)
    }

    /// Every user, by name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|known| &known.user)
    }

    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(Arc::as_ref)
    }

    /// Every role, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values().map(Arc::as_ref)
    }

    /// The living token of that hash.
    pub fn token(&self, hash: &TokenHash) -> Option<&Token> {
        self.tokens.get(hash)
    }

    /// Every living token.
    pub fn tokens(&self) -> impl Iterator<Item = (&TokenHash, &Token)> {
        self.tokens.iter()
    }

    /// How many tokens are alive.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// Whether a token should have ended by `now`.
    pub fn has_expired_tokens(&self, now: ClusterTime) -> bool {
        self.tokens.values().any(|token| token.deadline <= now)
    }

    /// Whether the caller said who they are (etcd `requireAuthInfo`).
    ///
    /// # Errors
    /// [`AuthError::UserEmpty`].
    pub fn permit_known(&self, caller: &Caller) -> Result<(), AuthError> {
        if self.enabled && caller.is_anonymous() { Err(AuthError::UserEmpty) } else { Ok(()) }
    }

    /// Whether the caller has the role root now, whatever they had when they were authenticated
    /// (etcd `IsAdminPermitted`).
    ///
    /// # Errors
    /// [`AuthError::UserEmpty`], [`AuthError::UserNotFound`], [`AuthError::PermissionDenied`].
    pub fn permit_admin(&self, caller: &Caller) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if caller.is_anonymous() || caller.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let user = self.user(&caller.user).ok_or(AuthError::UserNotFound)?;
        if user.is_admin() { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Whether the caller may do this to these keys (etcd `isOpPermitted`).
    ///
    /// # Errors
    /// [`AuthError::UserEmpty`], [`AuthError::OldRevision`], [`AuthError::PermissionDenied`].
    pub fn permit_keys(&self, caller: &Caller, range: &KeyRange, access: Access) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if caller.is_anonymous() {
            return Err(AuthError::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(AuthError::OldRevision);
        }
        match self.users.get(&caller.user) {
            Some(known) if known.user.is_admin() || known.merged.allows(range, access) => Ok(()),
            _ => Err(AuthError::PermissionDenied),
        }
    }

    /// Whether the caller may look at a user: an admin at all, others at themselves (etcd `UserGet`).
    ///
    /// # Errors
    /// As [`AuthState::permit_admin`].
    pub fn permit_user_sight(&self, caller: &Caller, name: &str) -> Result<(), AuthError> {
        self.permit_admin(caller).or_else(|refusal| if caller.user == name { Ok(()) } else { Err(refusal) })
    }

    /// Whether the caller may look at a role: an admin at all, others at their own (etcd `RoleGet`).
    ///
    /// # Errors
    /// As [`AuthState::permit_admin`].
    pub fn permit_role_sight(&self, caller: &Caller, name: &str) -> Result<(), AuthError> {
        let is_own = || self.user(&caller.user).is_some_and(|user| user.roles.contains(name));
        self.permit_admin(caller).or_else(|refusal| if is_own() { Ok(()) } else { Err(refusal) })
    }

    /// Whether the root user could still administer the cluster if authentication were on.
    pub(super) fn has_root(&self) -> Result<(), AuthError> {
        let root = self.user(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if root.is_admin() { Ok(()) } else { Err(AuthError::RootRoleNotExist) }
    }

    /// Takes one change in.
    pub fn absorb(&mut self, change: &AuthChange) {
        match change {
            AuthChange::Status { enabled, revision } => (self.enabled, self.revision) = (*enabled, *revision),
            AuthChange::UserSet(user) => {
                let known = Known { merged: self.merged(&user.roles), user: user.clone() };
                self.users.insert(user.name.clone(), Arc::new(known));
            }
            AuthChange::UserRemoved(name) => {
                self.users.remove(name);
            }
            AuthChange::RoleSet(role) => {
                self.roles.insert(role.name.clone(), Arc::new(role.clone()));
                self.merge_again(&role.name);
            }
            AuthChange::RoleRemoved(name) => {
                self.roles.remove(name);
                self.merge_again(name);
            }
            AuthChange::TokenSet(hash, token) => {
                self.tokens.insert(*hash, token.clone());
            }
            AuthChange::TokenRemoved(hash) => {
                self.tokens.remove(hash);
            }
        }
    }

    fn merged(&self, roles: &BTreeSet<String>) -> Merged {
        Merged::of(roles.iter().filter_map(|name| self.role(name)))
    }

    /// Computes anew what those who have a role are allowed.
    fn merge_again(&mut self, role: &str) {
        let holders: Vec<Arc<Known>> =
            self.users.values().filter(|known| known.user.roles.contains(role)).cloned().collect();
        for holder in holders {
            let known = Known { merged: self.merged(&holder.user.roles), user: holder.user.clone() };
            self.users.insert(known.user.name.clone(), Arc::new(known));
        }
    }
}
