//! Authentication: client certificates, ServiceAccount tokens, bootstrap tokens, impersonation, anonymous.

mod account;
mod bootstrap_token;
mod impersonate;
mod keys;
mod token;

pub use impersonate::impersonate;
pub use keys::{SigningKey, VerifyingKey, read_verifying_keys};
pub use token::{Audiences, Binding, Claims, ObjectName, sign};

use crate::http::Peer;
use crate::objects::Objects;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::sync::Arc;
use token::TokenError;
use xebec_api::Status;
use xebec_apiserver_core::User;

/// Group of everybody who proved an identity.
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";

/// Who sent a request.
pub struct Authenticator {
    /// Verifies ServiceAccount tokens.
    pub keys: Vec<VerifyingKey>,
    /// Accepted issuers; the first one signs.
    pub issuers: Vec<String>,
    /// Audiences of this API server.
    pub audiences: Vec<String>,
    /// Whether requests without credentials are system:anonymous.
    pub anonymous: bool,
    /// Live objects.
    pub objects: Arc<Objects>,
}

impl Authenticator {
    /// The user of a request.
    ///
    /// # Errors
    /// 401 for credentials that are not valid, or none where anonymous requests are refused.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Status> {
        if let Some(certificate) = peer.certificate.as_ref().filter(|certificate| !certificate.common_name.is_empty()) {
            // The handshake checked the validity, but a connection may outlive its certificate.
            if certificate.not_after_unix_seconds < jiff::Timestamp::now().as_second() {
                return Err(unauthorized());
            }
            let mut user = User { name: certificate.common_name.clone(), ..User::default() };
            user.groups.clone_from(&certificate.organizations);
            return Ok(with_group(user));
        }
        let Some(header) = headers.get(AUTHORIZATION) else {
            return if self.anonymous { Ok(User::new(ANONYMOUS, &[UNAUTHENTICATED])) } else { Err(unauthorized()) };
        };
        let token = header.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Err(unauthorized()) };
        match self.authenticate_token(token, &self.audiences).await? {
            Some((user, _)) => Ok(user),
            None => Err(unauthorized()),
        }
    }

    /// The user of a token that is meant for one of `audiences`, and which of them; `None`: not valid.
    pub async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(User, Vec<String>)>, Status> {
        let now = jiff::Timestamp::now().as_second();
        match token::verify(token, &self.keys, &self.issuers, now) {
            Ok(claims) => {
                let meant: Vec<String> = claims.aud.0.iter().filter(|one| audiences.contains(one)).cloned().collect();
                if meant.is_empty() {
                    tracing::debug!(subject = claims.sub, "token for other audiences");
                    return Ok(None);
                }
                let user = account::live_user(&self.objects, &claims, now).await?;
                Ok(user.map(|user| (with_group(user), meant)))
            }
            Err(TokenError::Foreign) => {
                let user = bootstrap_token::user(&self.objects, token, now).await?;
                Ok(user.map(|user| (with_group(user), audiences.to_vec())))
            }
            Err(error @ TokenError::Invalid(_)) => {
                tracing::debug!(%error, "token refused");
                Ok(None)
            }
        }
    }
}

fn with_group(mut user: User) -> User {
    if !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn unauthorized() -> Status {
    Status::unauthorized("Unauthorized")
}
