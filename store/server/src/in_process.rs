//! A member's client services without a port, for a simulation that carries calls by itself.

use std::sync::Arc;

use axum::Router;
use xebec_store_raft::Member;

use crate::{
    Error, Flags,
    auth::Authenticator,
    context::Context,
    run::{client_router, limits},
};

/// What a member serves on its client port, with the limits that the flags give.
///
/// # Errors
/// If the flags ask for tokens that cannot be made.
pub fn client_services(member: &Member, flags: &Flags) -> Result<Router, Error> {
    let authenticator = Arc::new(Authenticator::new(flags)?);
    Ok(client_router(&Context::new(member.clone(), limits(flags), authenticator)))
}
