//! ServiceAccount tokens: their claims, signing and verification of what needs no live objects.

use super::keys::{SigningKey, VerifyingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Clock skew tolerated in `nbf`, in seconds.
const SKEW_SECONDS: i64 = 10;

/// Claims of a bound token (kubernetes `pkg/serviceaccount/claims.go`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    #[serde(default)]
    pub aud: Audiences,
    /// Seconds since the epoch after which the token is void.
    #[serde(default)]
    pub exp: i64,
    /// Seconds since the epoch at which it was issued.
    #[serde(default)]
    pub iat: i64,
    /// Issuer.
    #[serde(default)]
    pub iss: String,
    /// Token id.
    #[serde(default)]
    pub jti: String,
    /// What the token is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Binding,
    /// Seconds since the epoch before which the token is void.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`.
    #[serde(default)]
    pub sub: String,
}

/// The objects a token is bound to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectName>,
    /// Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectName>,
    /// Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectName>,
    /// ServiceAccount.
    pub serviceaccount: ObjectName,
}

/// Name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectName {
    /// Name.
    pub name: String,
    /// Uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// One audience or several, as JWT allows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Value", into = "Vec<String>")]
pub struct Audiences(pub Vec<String>);

impl From<Value> for Audiences {
    fn from(value: Value) -> Self {
        match value {
            Value::String(one) => Self(vec![one]),
            Value::Array(many) => Self(many.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            _ => Self::default(),
        }
    }
}

impl From<Audiences> for Vec<String> {
    fn from(audiences: Audiences) -> Self {
        audiences.0
    }
}

/// Signs claims.
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<String, String> {
    let header = json!({"alg": key.public.algorithm.name(), "kid": key.public.id});
    let encode = |value: Vec<u8>| URL_SAFE_NO_PAD.encode(value);
    let header = encode(serde_json::to_vec(&header).map_err(|error| error.to_string())?);
    let body = encode(serde_json::to_vec(claims).map_err(|error| error.to_string())?);
    let message = format!("{header}.{body}");
    let signature = encode(key.sign(message.as_bytes())?);
    Ok(format!("{message}.{signature}"))
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours: others may know it.
    #[error("not a ServiceAccount token of this cluster")]
    Foreign,
    /// Ours, but not valid (any more).
    #[error("{0}")]
    Invalid(String),
}

/// Checks form, signature, issuer and times.
pub fn verify(token: &str, keys: &[VerifyingKey], issuers: &[String], now: i64) -> Result<Claims, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
    let (header, body) = message.split_once('.').ok_or(TokenError::Foreign)?;
    let header: Value = decode(header)?;
    let claims: Value = decode(body)?;
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if !issuers.iter().any(|known| known == issuer) {
        return Err(TokenError::Foreign);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Foreign)?;
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let id = header.get("kid").and_then(Value::as_str).unwrap_or_default();
    // The key decides the algorithm; the header may only agree with it.
    let verified = keys
        .iter()
        .filter(|key| key.algorithm.name() == algorithm && (id.is_empty() || key.id == id))
        .any(|key| key.verifies(message.as_bytes(), &signature));
    let invalid = |reason: &str| Err(TokenError::Invalid(reason.to_owned()));
    if !verified {
        return invalid("the token's signature is not valid");
    }
    let claims: Claims = serde_json::from_value(claims).map_err(|error| TokenError::Invalid(error.to_string()))?;
    if claims.exp != 0 && now >= claims.exp {
        return invalid("service account token has expired");
    }
    if claims.nbf != 0 && now + SKEW_SECONDS < claims.nbf {
        return invalid("service account token is not valid yet");
    }
    let subject =
        format!("system:serviceaccount:{}:{}", claims.kubernetes.namespace, claims.kubernetes.serviceaccount.name);
    if claims.sub != subject {
        return invalid("the token's subject and claims differ");
    }
    Ok(claims)
}

fn decode(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Foreign)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Foreign)
}
