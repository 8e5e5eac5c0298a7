//! Certificates: authorities and what they issue, rustls configurations that notice renewed files, and the identities
//! that certificates carry.
//!
//! Everything Xebec listens on or connects to is TLS. Keys are ECDSA P-256, certificates are PEM files, private keys are
//! readable by their owner only, and nothing here ever logs a key.

mod authority;
mod connect;
mod identity;
mod master;
mod policy;
mod reload;
mod tls;
mod unverified;
mod verifier;

pub use authority::{Authority, CertificateRequest, Issued, KeyAndRequest, SignOptions, Usage};
pub use connect::{TlsConnector, TlsIo};
pub use identity::{Identity, spki_sha256};
pub use master::{ClusterAuthorities, MasterNames};
pub use policy::{TlsPolicy, TlsVersion};
pub use tls::{
    ClientTls, ServerTls, client_config, client_config_from_pem, client_config_with, read_certificates, server_config,
    server_config_with,
};
pub use unverified::unverified_client_config;

use std::path::PathBuf;

/// What can go wrong with keys and certificates, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file in question.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file was read, but does not hold what its place calls for.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes that came over the wire are not a certificate or a request.
    #[error("not a certificate or certificate request: {0}")]
    Parse(String),
    /// The certificate library refused to generate or sign.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// What is asked of TLS cannot be had.
    #[error("TLS: {0}")]
    Policy(String),
    /// rustls refused the combination of certificate, key and authorities.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
}

impl Error {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.to_string() }
    }
}
