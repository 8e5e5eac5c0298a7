//! `--auth-token` (etcd `server/auth/store.go` `decomposeOpts`, `server/auth/options.go`).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::run::Error;

/// Seconds for which a simple token lives without use (etcd `--auth-token-ttl`).
pub(crate) const TOKEN_TTL_SECONDS_DEFAULT: u64 = 300;
/// bcrypt's cost of hashing passwords (etcd `--bcrypt-cost`).
pub(crate) const BCRYPT_COST_DEFAULT: u32 = 10;
/// How long a signed token is valid (etcd `auth.DefaultTTL`).
const JWT_TTL_DEFAULT: Duration = Duration::from_secs(300);

/// What kind of token a member issues.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthOptions {
    Simple,
    Jwt(JwtOptions),
    None,
}

/// `jwt,sign-method=...,pub-key=...,priv-key=...,ttl=...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JwtOptions {
    pub sign_method: String,
    pub public_key: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub ttl: Duration,
}

impl AuthOptions {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Flag(format!("--auth-token: {reason}"));
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options = BTreeMap::new();
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| invalid(&format!("{part} is not name=value")))?;
            if options.insert(name, value).is_some() {
                return Err(invalid(&format!("{name} comes twice")));
            }
        }
        match kind {
            "simple" => Ok(Self::Simple),
            "" => Ok(Self::None),
            "jwt" => {
                let mut take = |name: &str| options.remove(name).filter(|value| !value.is_empty());
                let sign_method = take("sign-method").ok_or_else(|| invalid("jwt needs a sign-method"))?.to_owned();
                let (public_key, private_key) =
                    (take("pub-key").map(PathBuf::from), take("priv-key").map(PathBuf::from));
                let ttl = take("ttl").map(|ttl| duration(ttl).ok_or_else(|| invalid(&format!("{ttl} is no duration"))));
                let ttl = ttl.transpose()?.unwrap_or(JWT_TTL_DEFAULT);
                if !options.is_empty() {
                    let names: Vec<&str> = options.into_keys().collect();
                    tracing::warn!(?names, "--auth-token: unknown options");
                }
                Ok(Self::Jwt(JwtOptions { sign_method, public_key, private_key, ttl }))
            }
            _ => Err(invalid(&format!("{kind} is neither simple nor jwt"))),
        }
    }
}

/// Reads a duration as Go writes them: `10m`, `1h30m`, `1.5s`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("10m", 600_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("300ms", 300)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "10", "m", "1x", "1m2", "-1s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn options_are_etcds() {
        assert_eq!(AuthOptions::parse("simple").unwrap(), AuthOptions::Simple);
        assert_eq!(AuthOptions::parse("").unwrap(), AuthOptions::None);
        let parsed = AuthOptions::parse("jwt,pub-key=a.pem,priv-key=b.pem,sign-method=RS256,ttl=10m").unwrap();
        let expected = JwtOptions {
            sign_method: "RS256".into(),
            public_key: Some("a.pem".into()),
            private_key: Some("b.pem".into()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(parsed, AuthOptions::Jwt(expected));
        for wrong in ["other", "jwt", "jwt,sign-method", "jwt,ttl=1m", "jwt,sign-method=HS256,sign-method=HS256"] {
            assert!(AuthOptions::parse(wrong).is_err(), "{wrong}");
        }
    }
}
