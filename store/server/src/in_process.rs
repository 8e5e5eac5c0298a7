//! A member's client services without a port, for a simulation that carries calls by itself.

use std::{sync::Arc, time::Duration};

use axum::Router;
use xebec_store_raft::Member;

use crate::{
    Error, Flags,
    auth::Authenticator,
    context::{Context, Limits},
    run::client_router,
};

/// What a member serves on its client port, with the limits that the flags give.
///
/// # Errors
/// If the flags ask for tokens that cannot be made.
pub fn client_services(member: &Member, flags: &Flags) -> Result<Router, Error> {
    let limits = Limits {
        request_bytes_max: flags.max_request_bytes,
        txn_ops_max: flags.max_txn_ops,
        quota_bytes: flags.quota_backend_bytes,
        election_timeout: Duration::from_millis(flags.election_timeout),
        progress_interval: Duration::from_secs(flags.watch_progress_notify_interval),
    };
    let authenticator = Arc::new(Authenticator::new(flags)?);
    Ok(client_router(&Context::new(member.clone(), limits, authenticator)))
}
