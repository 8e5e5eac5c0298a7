//! Whom a handshake believes: authorities and revocation lists that follow their files, and names.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject as _},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{Error, Identity, reload::Reloading, tls::read_roots};

/// Verifies clients.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    inner: Reloading<dyn ClientCertVerifier>,
    is_required: bool,
    common_names: Vec<String>,
    host_names: Vec<ServerName<'static>>,
}

impl ClientVerifier {
    pub fn load(
        ca: &Path,
        crl: Option<&Path>,
        is_required: bool,
        allowed: (&[String], &[String]),
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let (ca, crl) = (ca.to_owned(), crl.map(Path::to_owned));
        let files: Vec<PathBuf> = std::iter::once(ca.clone()).chain(crl.clone()).collect();
        let read = move || {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(&ca)?), provider.clone());
            let builder = match &crl {
                // As etcd does: a list refuses those on it, and says nothing of other authorities' certificates.
                Some(crl) => {
                    let builder = builder.with_crls(read_crls(crl)?);
                    builder.only_check_end_entity_revocation().allow_unknown_revocation_status()
                }
                None => builder,
            };
            builder.build().map_err(|error| Error::malformed(&ca, error))
        };
        let host_names = allowed.1.iter().map(|name| {
            ServerName::try_from(name.clone()).map_err(|error| Error::Parse(format!("host name {name}: {error}")))
        });
        let (common_names, host_names) = (allowed.0.to_vec(), host_names.collect::<Result<_, _>>()?);
        Ok(Self { inner: Reloading::new(files, read)?, is_required, common_names, host_names })
    }

    /// Whether the certificate has one of the names, if any are asked for (etcd `--peer-cert-allowed-cn`,
    /// `--peer-cert-allowed-hostname`).
    fn check_names(&self, end_entity: &CertificateDer<'_>) -> Result<(), TlsError> {
        if self.common_names.is_empty() && self.host_names.is_empty() {
            return Ok(());
        }
        let identity = Identity::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let named = self.common_names.contains(&identity.common_name)
            || self.host_names.iter().any(|name| rustls::client::verify_server_name(&parsed, name).is_ok());
        match named {
            true => Ok(()),
            false => {
                tracing::warn!(common_name = identity.common_name, "a certificate has none of the allowed names");
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints cannot follow the files; clients then show what they have.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self.inner.get().verify_client_cert(end_entity, intermediates, now)?;
        self.check_names(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.get().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.get().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.get().supported_verify_schemes()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub(crate) struct ServerVerifier(Reloading<WebPkiServerVerifier>);

impl ServerVerifier {
    pub fn load(ca: &Path, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let ca = ca.to_owned();
        let read = {
            let ca = ca.clone();
            move || {
                WebPkiServerVerifier::builder_with_provider(Arc::new(read_roots(&ca)?), provider.clone())
                    .build()
                    .map_err(|error| Error::malformed(&ca, error))
            }
        };
        Ok(Self(Reloading::new(vec![ca], read)?))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.0.get().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.get().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.get().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().supported_verify_schemes()
    }
}

/// Revocation lists of a file, PEM or DER.
fn read_crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let bytes = fs::read(path).map_err(|error| Error::file(path, error))?;
    if !bytes.starts_with(b"-----") {
        return Ok(vec![bytes.into()]);
    }
    CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::malformed(path, error))
}
