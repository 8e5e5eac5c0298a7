//! What is read from files and follows them: a renewed certificate, key, authority or revocation list counts from the next
//! handshake on. Connections that stand are left alone.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
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

/// What tells one state of a file from another: its time of change, its length and its inode, so that a file that is
/// replaced within the clock's resolution is noticed too.
type Stamp = Option<(SystemTime, u64, u64)>;

type Read<T> = Box<dyn Fn() -> Result<Arc<T>, Error> + Send + Sync>;

/// A value that is read again when its files change. Looking costs a `stat` a file.
pub(crate) struct Reloading<T: ?Sized> {
    files: Vec<PathBuf>,
    read: Read<T>,
    current: ArcSwap<Loaded<T>>,
    /// The state of the files that could not be used, so that it is logged once.
    refused: Mutex<Option<Vec<Stamp>>>,
}

struct Loaded<T: ?Sized> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T: ?Sized> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: ?Sized> Reloading<T> {
    /// Reads the value for the first time.
    pub fn new(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<Arc<T>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // Before reading: a change in between is found at the next look.
        let stamps = stamps(&files);
        let value = read()?;
        let current = ArcSwap::from_pointee(Loaded { stamps, value });
        Ok(Self { files, read: Box::new(read), current, refused: Mutex::new(None) })
    }

    /// The value as the files have it now; the one before if they cannot be used, being half replaced for example.
    pub fn get(&self) -> Arc<T> {
        let now = stamps(&self.files);
        if self.current.load().stamps != now {
            self.reload(now);
        }
        self.current.load().value.clone()
    }

    fn reload(&self, now: Vec<Stamp>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_ref() == Some(&now) {
            return;
        }
        match (self.read)() {
            Ok(value) => {
                self.current.store(Arc::new(Loaded { stamps: now, value }));
                *refused = None;
                tracing::info!(files = ?self.files, "renewed certificates loaded");
            }
            Err(error) => {
                tracing::warn!(%error, "renewed certificates cannot be used yet");
                *refused = Some(now);
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(stamp).collect()
}

/// A certificate and key that follow their files.
#[derive(Debug)]
pub(crate) struct ReloadingKey(Reloading<CertifiedKey>);

impl ReloadingKey {
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let files = vec![certificate.clone(), key.clone()];
        Ok(Self(Reloading::new(files, move || read_key(&certificate, &key).map(Arc::new))?))
    }
}

impl ResolvesServerCert for ReloadingKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

impl ResolvesClientCert for ReloadingKey {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
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
