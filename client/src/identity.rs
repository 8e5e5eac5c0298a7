//! A client certificate that is read again when its files change, so that renewal needs no restart.

use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Why a client certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or is not PEM.
    #[error("cannot load {path}: {source}")]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("no certificate in {0}")]
    Empty(PathBuf),
    /// The key is of no supported kind.
    #[error("unusable key in {path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
}

/// Resolves to the certificate currently in the files. A pair that cannot be loaded (half written, say) leaves the
/// last good one in use.
#[derive(Debug)]
pub(crate) struct FileIdentity {
    cert: PathBuf,
    key: PathBuf,
    loaded: Mutex<(Option<SystemTime>, Arc<CertifiedKey>)>,
}

impl FileIdentity {
    pub(crate) fn open(cert: PathBuf, key: PathBuf) -> Result<Self, IdentityError> {
        let stamp = modified(&cert);
        let pair = load(&cert, &key)?;
        Ok(Self { cert, key, loaded: Mutex::new((stamp, Arc::new(pair))) })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut loaded = self.loaded.lock();
        let stamp = modified(&self.cert);
        if stamp != loaded.0 {
            match load(&self.cert, &self.key) {
                Ok(pair) => *loaded = (stamp, Arc::new(pair)),
                Err(error) => tracing::warn!(%error, "keeping the previous client certificate"),
            }
        }
        loaded.1.clone()
    }
}

impl ResolvesClientCert for FileIdentity {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn modified(path: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn load(cert: &PathBuf, key: &PathBuf) -> Result<CertifiedKey, IdentityError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|certs| certs.collect::<Result<Vec<_>, _>>())
        .map_err(|source| IdentityError::Load { path: cert.clone(), source })?;
    if chain.is_empty() {
        return Err(IdentityError::Empty(cert.clone()));
    }
    let der = PrivateKeyDer::from_pem_file(key).map_err(|source| IdentityError::Load { path: key.clone(), source })?;
    let signer = any_supported_type(&der).map_err(|source| IdentityError::Key { path: key.clone(), source })?;
    Ok(CertifiedKey::new(chain, signer))
}
