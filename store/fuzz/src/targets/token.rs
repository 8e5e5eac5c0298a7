//! Tokens and what they are checked with.

use anyhow::Result;
use xebec_store::fuzzing::{SignedTokens, read_token_options};

use super::{Target, outcome};
use crate::input::Input;

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &[u8] = br#"{"username":"ann","revision":7,"exp":9999999999}"#;
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
/// As `openssl ecparam -genkey` writes it (RFC 5915).
const EC_KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49
AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q
EKTcWGekdmdDPsHloRNtsiCa697B2O9IFA==
-----END EC PRIVATE KEY-----
";

/// Kind 0: a token as it comes. 1: header and claims, a part each, signed here. 2: `--auth-token` and a key file.
pub struct Tokens {
    tokens: SignedTokens,
}

impl Tokens {
    pub fn new() -> Self {
        Self { tokens: SignedTokens::new() }
    }
}

impl Target for Tokens {
    fn seeds(&self) -> Result<Vec<Input>> {
        let pair = |kind, first: &[u8], second: &[u8]| {
            let mut input = Input::one(kind, first);
            input.parts.extend(Input::one(kind, second).parts);
            input
        };
        let options = b"jwt,pub-key=a.pem,priv-key=b.pem,sign-method=RS256,ttl=1h30m".as_slice();
        let keys = [PUBLIC_KEY, PRIVATE_KEY, EC_KEY].map(|pem| pair(2, options, pem.as_bytes()));
        let certificate = pair(2, b"simple", include_bytes!("../../seeds/certificate.der"));
        let tokens = [Input::one(0, self.tokens.sign(HEADER, CLAIMS)), pair(1, HEADER, CLAIMS), certificate];
        Ok(tokens.into_iter().chain(keys).collect())
    }

    fn run(&mut self, input: &Input) -> u64 {
        let Some(part) = input.parts.first() else { return 0 };
        let second = input.parts.get(1).map_or(&[][..], |part| &part.bytes);
        match part.kind % 3 {
            0 => u64::from(self.tokens.accepts(&String::from_utf8_lossy(&part.bytes))),
            1 => 2 + u64::from(self.tokens.accepts(&self.tokens.sign(&part.bytes, second))),
            _ => match read_token_options(&String::from_utf8_lossy(&part.bytes), second) {
                Ok(()) => 4,
                Err(reason) => outcome(&reason),
            },
        }
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b".",
            b",",
            b"=",
            b"ttl=",
            b"h",
            b"m",
            b"s",
            b"ms",
            b"99999999999999999999h",
            b"-1",
            b"1e400",
            b"null",
            b"\"exp\":",
            b"\"nbf\":",
            b"{",
            b"}",
            b"[",
            b"sign-method=ES512",
            b"jwt",
            b"simple",
            b"\\u0000",
            b"\\ud800",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----END CERTIFICATE-----\n",
            b"\x30\x80",
            b"\x30\x84\xff\xff\xff\xff",
        ]
    }
}
