//! etcd's authentication and authorization as pure functions: users, roles, tokens, and who may do what.
//!
//! - [`AuthState`] is the replicated state. It changes only by [`AuthChange`]s, which keyspaces persist one by one.
//! - [`AuthCommand`] is what changes it, through the log like everything else.
//! - [`Caller`] is who a request comes from. A command that a client asked for is committed as
//!   [`Authorized`] and judged where it is applied, so that whatever was revoked before it in the log is refused on
//!   every member alike. While authentication is off nothing is wrapped and nothing is looked up.
//!
//! Invariant: permissions are decided over the same state that the command reads or changes.
//!
//! Rules and errors are etcd's (`server/auth/store.go`, `server/auth/range_perm_cache.go`,
//! `server/etcdserver/apply/auth.go`).

mod caller;
mod command;
mod error;
mod permission;
mod permit;
mod state;
mod token;
mod user;

pub use caller::{Authorized, Caller};
pub use command::AuthCommand;
pub(crate) use command::evaluate;
pub use error::AuthError;
pub use permission::{Access, Permission, PermissionKind, Role};
pub(crate) use permit::permit_command;
pub use permit::{permit_lease_renewal, permit_lease_sight, permit_txn};
pub use state::{AuthChange, AuthState, FIRST_AUTH_REVISION, TOKENS_MAX};
pub use token::{Token, TokenHash};
pub use user::{PasswordHash, ROOT, User};
