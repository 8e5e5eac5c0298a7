//! The continue token: where a paged LIST goes on, and at which revision (apiserver `storage/continue.go`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use xebec_api::Status;

const VERSION: &str = "meta.k8s.io/v1";

/// A decoded token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    v: String,
    /// Revision of the whole list; -1: any recent one.
    rv: i64,
    /// First key of the next page, behind the list's prefix.
    start: String,
}

impl Continuation {
    /// A token for the page that begins behind `last`.
    pub fn after(revision: i64, last: &str) -> Self {
        // A key's successor: upstream appends a zero byte.
        Self { v: VERSION.into(), rv: revision, start: format!("{last}\0") }
    }

    /// Revision of the list.
    pub fn revision(&self) -> i64 {
        self.rv
    }

    /// First key of the page.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// As clients carry it.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads it back.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| invalid("not base64"))?;
        let read: Self = serde_json::from_slice(&bytes).map_err(|_| invalid("not JSON"))?;
        if read.v != VERSION {
            return Err(invalid("incorrect encoding or version"));
        }
        if read.rv == 0 {
            return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        if read.start.is_empty() || read.start.split('/').any(|part| part == "..") {
            return Err(invalid("encoded start key is missing or not clean"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let token = Continuation::after(42, "ns/a");
        assert_eq!(Continuation::decode(&token.encode()), Ok(token.clone()));
        assert_eq!(token.start(), "ns/a\0");
        for bad in ["", "!!", "e30", &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":5,"start":"../x"}"#)] {
            assert_eq!(Continuation::decode(bad).expect_err("refused").code, 400, "{bad}");
        }
    }
}
