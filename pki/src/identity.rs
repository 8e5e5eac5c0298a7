//! Who a certificate speaks for.

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Error;

/// The subject of a verified client certificate, as the API server reads it: the common name is the user, the
/// organizations are the groups (kubernetes `apiserver/pkg/authentication/request/x509`, `CommonNameUserConversion`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user name.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    /// Seconds since the epoch at which the certificate ends.
    pub not_after_unix_seconds: i64,
}

impl Identity {
    /// Reads the subject of a DER certificate. The certificate must have been verified before.
    ///
    /// # Errors
    /// [`Error::Parse`] for bytes that are not a certificate, or a subject that is not text.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| Error::Parse(e.to_string()))?;
        let subject = certificate.subject();
        let common_name = match subject.iter_common_name().last() {
            Some(name) => name.as_str().map_err(|e| Error::Parse(e.to_string()))?.to_owned(),
            None => String::new(),
        };
        let organizations = subject
            .iter_organization()
            .map(|name| name.as_str().map(str::to_owned).map_err(|e| Error::Parse(e.to_string())))
            .collect::<Result<_, _>>()?;
        let not_after_unix_seconds = certificate.validity().not_after.timestamp();
        Ok(Self { common_name, organizations, not_after_unix_seconds })
    }
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo, the pin that kubeadm calls a discovery hash.
///
/// # Errors
/// [`Error::Parse`] for bytes that are not a certificate.
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| Error::Parse(e.to_string()))?;
    Ok(Sha256::digest(certificate.public_key().raw).into())
}
