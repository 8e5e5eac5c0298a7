//! Certificates that follow their files: a renewed certificate is picked up by the next handshake.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Error, tls::read_certificates};

/// Handshakes look at the files' times at most this often.
const CHECK_INTERVAL_SECONDS: i64 = 10;

/// A certificate and key that are read again when their files change.
#[derive(Debug)]
pub(crate) struct ReloadingKey {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    modified_unix_seconds: AtomicI64,
    checked_unix_seconds: AtomicI64,
}

impl ReloadingKey {
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let current = read_key(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(current),
            modified_unix_seconds: AtomicI64::new(modified(certificate)),
            checked_unix_seconds: AtomicI64::new(unix_seconds(SystemTime::now())),
        })
    }

    fn get(&self) -> Arc<CertifiedKey> {
        let now = unix_seconds(SystemTime::now());
        let checked = self.checked_unix_seconds.load(Ordering::Relaxed);
        if (now - checked).abs() >= CHECK_INTERVAL_SECONDS {
            self.checked_unix_seconds.store(now, Ordering::Relaxed);
            self.reload_if_changed();
        }
        self.current.load_full()
    }

    fn reload_if_changed(&self) {
        let modified = modified(&self.certificate);
        if modified == self.modified_unix_seconds.load(Ordering::Relaxed) {
            return;
        }
        match read_key(&self.certificate, &self.key) {
            Ok(renewed) => {
                self.current.store(Arc::new(renewed));
                self.modified_unix_seconds.store(modified, Ordering::Relaxed);
                tracing::info!(certificate = %self.certificate.display(), "renewed certificate loaded");
            }
            // The old certificate goes on serving: files may be half replaced, and the next check finds them whole.
            Err(error) => tracing::warn!(%error, "renewed certificate cannot be used yet"),
        }
    }
}

impl ResolvesServerCert for ReloadingKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ResolvesClientCert for ReloadingKey {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let chain = read_certificates(certificate)?;
    let private = fs::read(key).map_err(|e| Error::file(key, e))?;
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|e| Error::malformed(key, e))?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|e| Error::malformed(key, e))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| Error::malformed(certificate, "does not belong to its private key"))?;
    Ok(certified)
}

fn modified(path: &Path) -> i64 {
    fs::metadata(path).and_then(|m| m.modified()).map_or(0, unix_seconds)
}

fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
