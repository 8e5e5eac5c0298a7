//! What [`crate::fuzzing`] needs of tokens.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{jwt::Jwt, options::AuthOptions, signing::Signer};

/// Methods whose key files are PEM.
const METHODS: [&str; 4] = ["RS256", "ES256", "ES384", "EdDSA"];

/// Checks signed tokens by a secret that is known.
#[derive(Debug)]
pub(crate) struct TokenChecker {
    jwt: Jwt,
    signer: Signer,
}

impl TokenChecker {
    pub fn new(secret: &[u8]) -> Self {
        let signer = || Signer::new("HS256", None, Some(secret)).expect("any secret but an empty one is one of HMAC's");
        Self { jwt: Jwt { signer: signer(), ttl: Duration::from_secs(60) }, signer: signer() }
    }

    pub fn accepts(&self, token: &str) -> bool {
        self.jwt.verify(token).is_ok()
    }

    pub fn sign(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signed = self.signer.sign(message.as_bytes()).and_then(Result::ok).unwrap_or_default();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }
}

/// Reads `--auth-token`'s value, and keys by every method that has key files.
pub(crate) fn read_token_options(options: &str, pem: &[u8]) -> Result<(), String> {
    for method in METHODS {
        for (public, private) in [(Some(pem), None), (None, Some(pem))] {
            if let Ok(signer) = Signer::new(method, public, private) {
                signer.verifies(b"message", b"signature");
            }
        }
    }
    AuthOptions::parse(options).map(drop).map_err(|error| error.to_string())
}
