//! From credentials to callers, and what services ask of them.

use std::sync::Arc;

use tonic::{Code, Status};
use xebec_store_core::{
    Command, KeyRange, LeaseId, ReadView, Response,
    auth::{Access, AuthError, Caller, permit_lease_renewal},
};
use xebec_store_disk::View;

use super::{Credentials, jwt::Jwt, options::AuthOptions, passwords::Passwords, simple::SimpleTokens};
use crate::{Flags, context::Context, run::Error, status::IntoStatus};

/// What a request needs its sender to be, or to have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Demand<'r> {
    /// To have said who they are (etcd `requireAuthInfo`).
    Known,
    /// The role root (etcd `isPermitted`).
    Admin,
    /// Leave to read all these keys.
    Read(&'r KeyRange),
}

/// How this member issues and checks tokens (etcd `auth.TokenProvider`).
#[derive(Debug)]
pub(super) enum Tokens {
    /// Random, replicated as hashes.
    Simple(SimpleTokens),
    /// Signed, nothing to remember.
    Jwt(Box<Jwt>),
    /// `--auth-token=''`: nobody gets one.
    None,
}

/// How this member finds out who sends a request.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(super) tokens: Tokens,
    pub(super) passwords: Passwords,
    /// Whether a client's certificate says who they are.
    common_names: bool,
}

impl Authenticator {
    /// As the flags say.
    pub fn new(flags: &Flags) -> Result<Self, Error> {
        let tokens = match AuthOptions::parse(&flags.auth_token)? {
            AuthOptions::Simple => Tokens::Simple(SimpleTokens::new(flags.auth_token_ttl)),
            AuthOptions::Jwt(options) => Tokens::Jwt(Box::new(Jwt::new(&options)?)),
            AuthOptions::None => Tokens::None,
        };
        Ok(Self { tokens, passwords: Passwords::new(flags.bcrypt_cost), common_names: flags.client_cert_auth })
    }

    /// Whose credentials these are. `None`: a token that this view does not know.
    fn caller(&self, context: &Context, view: &View, credentials: &Credentials) -> Result<Option<Caller>, AuthError> {
        let auth_revision = view.auth().revision();
        let Some(token) = &credentials.token else {
            let name = credentials.common_name.as_ref().filter(|_| self.common_names);
            let caller = name.map(|name| Caller { user: name.0.to_string(), auth_revision });
            return Ok(Some(caller.unwrap_or_default()));
        };
        match &self.tokens {
            Tokens::Simple(tokens) => {
                let user = tokens.user(context, view, token);
                Ok(user.map(|user| Caller { user, auth_revision }))
            }
            Tokens::Jwt(jwt) => jwt.verify(token).map(Some),
            Tokens::None => Err(AuthError::InvalidAuthToken),
        }
    }
}

/// Why a watch was refused, as etcd says it in the response: the whole error, code included, and PermissionDenied for
/// whatever it did not expect (etcd `v3rpc/watch.go`).
pub(crate) fn watch_refusal(status: &Status) -> String {
    let code = match status.code() {
        Code::Unauthenticated => "Unauthenticated",
        Code::InvalidArgument => "InvalidArgument",
        _ => return format!("rpc error: code = PermissionDenied desc = {}", AuthError::PermissionDenied),
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}

/// Whether `caller` meets the demand, as `view` knows it.
pub(crate) fn permit(view: &View, caller: &Caller, demand: Demand<'_>) -> Result<(), Status> {
    match demand {
        Demand::Known => view.auth().permit_known(caller),
        Demand::Admin => view.auth().permit_admin(caller),
        Demand::Read(range) => view.auth().permit_keys(caller, range, Access::Read),
    }
    .map_err(IntoStatus::into_status)
}

impl Context {
    /// A view to read in, and who reads. Judge the read with [`permit`] over this view: then what the caller may see
    /// and what they see are one state, and a right that was taken away before a linearizable read began is missing in
    /// it. (etcd reads both one after the other, and refuses if the auth revision moved meanwhile.)
    pub async fn view_as(&self, credentials: &Credentials, serializable: bool) -> Result<(Arc<View>, Caller), Status> {
        self.check_health()?;
        self.who(credentials, serializable).await
    }

    /// As [`Context::view_as`], whatever is known of this member's data.
    pub async fn who(&self, credentials: &Credentials, serializable: bool) -> Result<(Arc<View>, Caller), Status> {
        let view = self.any_view(serializable).await?;
        if !view.auth().is_enabled() {
            return Ok((view, Caller::anonymous()));
        }
        if let Some(caller) = self.caller_in(&view, credentials)? {
            return Ok((view, caller));
        }
        // Issued by another member a moment ago, perhaps (etcd waits for the log index that the token names).
        let view = self.any_view(false).await?;
        let caller = self.caller_in(&view, credentials)?;
        Ok((view, caller.ok_or_else(|| AuthError::InvalidAuthToken.into_status())?))
    }

    fn caller_in(&self, view: &View, credentials: &Credentials) -> Result<Option<Caller>, Status> {
        self.authenticator.caller(self, view, credentials).map_err(IntoStatus::into_status)
    }

    /// Whether the sender of a request meets the demand, as this member knows it now. Answers who they are. A member
    /// whose data is corrupt answers too: whoever wants to find out what ails it must not be refused for that.
    ///
    /// # Errors
    /// etcd's: [`AuthError::InvalidAuthToken`], and those of the demand. None while authentication is off.
    pub async fn authorize(&self, credentials: &Credentials, demand: Demand<'_>) -> Result<Caller, Status> {
        let (view, caller) = self.who(credentials, true).await?;
        permit(&view, &caller, demand)?;
        Ok(caller)
    }

    /// Whether the sender of a request may renew a lease: they must be known, and may write all of its keys. A lease
    /// that is not there may be renewed by anybody known, in vain (etcd `checkLeaseRenew`).
    ///
    /// # Errors
    /// As [`Context::authorize`].
    pub async fn authorize_renewal(&self, credentials: &Credentials, id: LeaseId) -> Result<(), Status> {
        let (view, caller) = self.view_as(credentials, true).await?;
        permit(&view, &caller, Demand::Known)?;
        if !view.auth().is_enabled() {
            return Ok(());
        }
        permit_lease_renewal(&*view, &caller, id).map_err(IntoStatus::into_status)?.map_err(IntoStatus::into_status)
    }

    /// Proposes a command that the sender of a request asks for. Whether they may is decided where it is applied.
    ///
    /// # Errors
    /// As [`Context::propose`], and [`AuthError::InvalidAuthToken`].
    pub async fn propose_as(&self, credentials: &Credentials, command: Command) -> Result<Response, Status> {
        let (_, caller) = self.view_as(credentials, true).await?;
        self.propose(command.by(caller)).await
    }
}
