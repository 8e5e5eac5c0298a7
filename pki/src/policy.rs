//! What a TLS configuration allows beyond certificates.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

use crate::Error;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Limits on who may connect, and how. The default adds none.
#[derive(Clone, Debug, Default)]
pub struct TlsPolicy {
    /// Revoked certificates (PEM or DER).
    pub crl: Option<PathBuf>,
    /// A client's certificate must have one of these common names, or of the host names; empty: any.
    pub allowed_common_names: Vec<String>,
    /// Host names that a client's certificate may have.
    pub allowed_host_names: Vec<String>,
    /// Cipher suites of TLS 1.2 by IANA's name; empty: all that are safe. Those of TLS 1.3 are not for choice, as in Go.
    pub cipher_suites: Vec<String>,
    /// The lowest version.
    pub min: Option<TlsVersion>,
    /// The highest version.
    pub max: Option<TlsVersion>,
}

impl TlsPolicy {
    pub(crate) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        let all = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)];
        let allowed = |version: TlsVersion| {
            self.min.is_none_or(|min| version >= min) && self.max.is_none_or(|max| version <= max)
        };
        let versions: Vec<_> = all.into_iter().filter(|(version, _)| allowed(*version)).map(|(_, tls)| tls).collect();
        match versions.is_empty() {
            true => Err(Error::Policy("the lowest version of TLS is above the highest".to_owned())),
            false => Ok(versions),
        }
    }

    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, Error> {
        let mut provider = ring::default_provider();
        if self.cipher_suites.is_empty() {
            return Ok(Arc::new(provider));
        }
        if self.min == Some(TlsVersion::Tls13) {
            return Err(Error::Policy("cipher suites cannot be chosen for TLS 1.3".to_owned()));
        }
        // Go knows the ChaCha suites without their hash too.
        let is_named = |suite: &SupportedCipherSuite, name: &str| {
            let known = name_of(suite);
            known == name || known.strip_suffix("_SHA256").is_some_and(|short| short == name && short.ends_with("1305"))
        };
        for name in &self.cipher_suites {
            if !provider.cipher_suites.iter().any(|suite| suite.tls13().is_none() && is_named(suite, name)) {
                let known = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).map(name_of);
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(Error::Policy(format!("cipher suite {name} is not offered; there are {known}")));
            }
        }
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || self.cipher_suites.iter().any(|name| is_named(suite, name)));
        Ok(Arc::new(provider))
    }
}

fn name_of(suite: &SupportedCipherSuite) -> &'static str {
    suite.suite().as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> Result<usize, Error> {
        let cipher_suites = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(TlsPolicy { cipher_suites, ..TlsPolicy::default() }.provider()?.cipher_suites.len())
    }

    #[test]
    fn cipher_suites_are_chosen_by_gos_names_and_unknown_ones_refused() {
        // Three of TLS 1.3 stay.
        assert_eq!(suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]).unwrap(), 4);
        assert_eq!(suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap(), 4);
        let error = suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap_err().to_string();
        assert!(error.contains("TLS_RSA_WITH_AES_128_CBC_SHA is not offered"), "{error}");
    }

    #[test]
    fn versions_lie_between_the_bounds() {
        let count = |min, max| TlsPolicy { min, max, ..TlsPolicy::default() }.versions().map(|versions| versions.len());
        assert_eq!(count(None, None).unwrap(), 2);
        assert_eq!(count(Some(TlsVersion::Tls13), None).unwrap(), 1);
        assert!(count(Some(TlsVersion::Tls13), Some(TlsVersion::Tls12)).is_err());
    }
}
