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
    server::NoServerSessionStorage,
};

use crate::{
    Error,
    policy::TlsPolicy,
    reload::ReloadingKey,
    verifier::{ClientVerifier, ServerVerifier},
};

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

/// A server configuration whose certificate and authorities follow their files.
///
/// # Errors
/// The file that is missing or malformed, or rustls's refusal.
pub fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, Error> {
    server_config_with(tls, &TlsPolicy::default())
}

/// As [`server_config`], within a policy.
///
/// # Errors
/// As [`server_config`], and what the policy cannot be.
pub fn server_config_with(tls: &ServerTls, policy: &TlsPolicy) -> Result<Arc<ServerConfig>, Error> {
    let provider = policy.provider()?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&policy.versions()?)
        .map_err(Error::Tls)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let allowed = (policy.allowed_common_names.as_slice(), policy.allowed_host_names.as_slice());
            let verifier = ClientVerifier::load(ca, policy.crl.as_deref(), tls.require_client_cert, allowed, provider)?;
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ReloadingKey::load(&tls.cert, &tls.key)?));
    if tls.client_ca.is_some() {
        // A resumed session would not be verified again, whatever was revoked or renewed since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols.clone_from(&tls.alpn);
    Ok(Arc::new(config))
}

/// A client configuration whose certificate, if any, and authorities follow their files.
///
/// # Errors
/// The file that is missing or malformed, or rustls's refusal.
pub fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
    client_config_with(tls, &TlsPolicy::default())
}

/// As [`client_config`], within a policy; of the policy only suites and versions matter.
///
/// # Errors
/// As [`client_config`], and what the policy cannot be.
pub fn client_config_with(tls: &ClientTls, policy: &TlsPolicy) -> Result<Arc<ClientConfig>, Error> {
    let provider = policy.provider()?;
    let verifier = ServerVerifier::load(&tls.ca, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&policy.versions()?)
        .map_err(Error::Tls)?
        // Not dangerous: it is rustls's own verifier, made anew when the authorities change.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
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

pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|e| Error::malformed(path, e))?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
