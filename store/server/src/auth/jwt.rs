//! Signed tokens (etcd `server/auth/jwt.go`): user, auth revision and end are in the token, members remember nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use tonic::Status;
use xebec_store_core::auth::{AuthError, Caller};

use super::{options::JwtOptions, signing::Signer};
use crate::run::Error;

/// Issues and checks JSON web tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    pub signer: Signer,
    pub ttl: Duration,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
}

/// What etcd puts into its tokens; other issuers may leave out the end, or say when the token begins.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    /// A JSON number, so that tokens of others may write it their way.
    revision: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Jwt {
    /// Reads the keys.
    pub fn new(options: &JwtOptions) -> Result<Self, Error> {
        let read = |path: &Option<std::path::PathBuf>| match path {
            None => Ok(None),
            Some(path) => std::fs::read(path)
                .map(Some)
                .map_err(|error| Error::Flag(format!("--auth-token: {}: {error}", path.display()))),
        };
        let (public, private) = (read(&options.public_key)?, read(&options.private_key)?);
        let signer = Signer::new(&options.sign_method, public.as_deref(), private.as_deref());
        let signer = signer.map_err(|reason| Error::Flag(format!("--auth-token: {reason}")))?;
        Ok(Self { signer, ttl: options.ttl })
    }

    /// A token for a user whose password was right at this auth revision.
    pub fn issue(&self, user: &str, revision: u64) -> Result<String, Status> {
        self.issue_at(user, revision, now_seconds())
    }

    fn issue_at(&self, user: &str, revision: u64, now_seconds: f64) -> Result<String, Status> {
        let header = serde_json::json!({ "alg": self.signer.name, "typ": "JWT" });
        let end = (now_seconds + self.ttl.as_secs_f64()).floor();
        let claims = serde_json::json!({ "username": user, "revision": revision, "exp": end as i64 });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        match self.signer.sign(message.as_bytes()) {
            // `auth.ErrVerifyOnly`, which etcd does not translate.
            None => Err(Status::unknown("auth: token signing attempted with verify-only key")),
            Some(Ok(signed)) => Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))),
            Some(Err(reason)) => Err(Status::unknown(reason)),
        }
    }

    /// Whose token this is, if it is one of this key's and in its time.
    pub fn verify(&self, token: &str) -> Result<Caller, AuthError> {
        self.verify_at(token, now_seconds()).ok_or(AuthError::InvalidAuthToken)
    }

    fn verify_at(&self, token: &str, now_seconds: f64) -> Option<Caller> {
        let (message, signed) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let signed = URL_SAFE_NO_PAD.decode(signed).ok()?;
        // A token may not choose how it is checked.
        if header.alg != self.signer.name || !self.signer.verifies(message.as_bytes(), &signed) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let is_in_time =
            claims.exp.is_none_or(|end| now_seconds < end) && claims.nbf.is_none_or(|from| from <= now_seconds);
        is_in_time.then_some(Caller { user: claims.username, auth_revision: claims.revision as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(method: &str, secret: &[u8]) -> Jwt {
        Jwt { signer: Signer::new(method, None, Some(secret)).unwrap(), ttl: Duration::from_secs(60) }
    }

    #[test]
    fn a_token_says_who_and_when() {
        let jwt = jwt("HS256", b"secret");
        let token = jwt.issue_at("ann", 7, 1_000.0).unwrap();
        let caller = Caller { user: "ann".into(), auth_revision: 7 };
        assert_eq!(jwt.verify_at(&token, 1_059.0), Some(caller));
        assert_eq!(jwt.verify_at(&token, 1_060.0), None);
    }

    #[test]
    fn other_keys_methods_and_changed_tokens_are_refused() {
        let mine = jwt("HS256", b"secret");
        let token = mine.issue_at("ann", 7, 1_000.0).unwrap();
        assert_eq!(jwt("HS256", b"other").verify_at(&token, 1_000.0), None);
        assert_eq!(jwt("HS512", b"secret").verify_at(&token, 1_000.0), None);
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(r#"{"username":"root","revision":7}"#);
        assert_eq!(mine.verify_at(&parts.join("."), 1_000.0), None);
        parts[0] = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts[2] = String::new();
        assert_eq!(mine.verify_at(&parts.join("."), 1_000.0), None);
        assert_eq!(mine.verify_at("", 1_000.0), None);
    }
}
