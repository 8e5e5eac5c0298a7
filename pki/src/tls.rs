//! rustls configurations from files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::{Error, reload::ReloadingKey};

/// What a listener shows, and whom it believes.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The serving certificate (PEM, chain allowed).
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of client certificates; without them no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// Refuse clients without a certificate (needs `client_ca`).
    pub require_client_cert: bool,
    /// Application protocols offered, best first.
    pub alpn: Vec<Vec<u8>>,
}

/// What a connection shows, and whom it believes.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// The authorities that the server's certificate must come from.
    pub ca: PathBuf,
    /// The client certificate, if the server asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Application protocols offered, best first.
    pub alpn: Vec<Vec<u8>>,
}

/// A server configuration whose certificate follows its files.
///
/// # Errors
/// The file that is missing or malformed, or rustls's refusal.
pub fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(Error::Tls)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(ca)?), provider());
            let verifier = if tls.require_client_cert { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| Error::malformed(ca, e))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ReloadingKey::load(&tls.cert, &tls.key)?));
    config.alpn_protocols.clone_from(&tls.alpn);
    Ok(Arc::new(config))
}

/// A client configuration whose certificate, if any, follows its files.
///
/// # Errors
/// The file that is missing or malformed, or rustls's refusal.
pub fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
    let builder = client_builder()?.with_root_certificates(read_roots(&tls.ca)?);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => builder.with_client_cert_resolver(Arc::new(ReloadingKey::load(cert, key)?)),
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&tls.alpn);
    Ok(Arc::new(config))
}

/// A client configuration without a client certificate that trusts the authorities in `ca_pem`.
///
/// # Errors
/// [`Error::Parse`] if there is no certificate in it.
pub fn client_config_from_pem(ca_pem: &str, alpn: Vec<Vec<u8>>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|e| Error::Parse(e.to_string()))?).map_err(Error::Tls)?;
    }
    let mut config = client_builder()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn;
    Ok(Arc::new(config))
}

/// Every certificate of a PEM file, in order.
///
/// # Errors
/// The file is missing, malformed or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs::read(path).map_err(|e| Error::file(path, e))?;
    let certificates =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|e| Error::malformed(path, e))?;
    if certificates.is_empty() {
        return Err(Error::malformed(path, "holds no certificate"));
    }
    Ok(certificates)
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(Error::Tls)
}

fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|e| Error::malformed(path, e))?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
