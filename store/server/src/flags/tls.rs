//! Flags of TLS beyond certificate, key and authorities.

use std::path::PathBuf;

use clap::Args;
use xebec_pki::{TlsPolicy, TlsVersion};

/// Who may connect with TLS, and how.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Revoked client certificates (PEM or DER); read again when it changes.
    #[arg(long, env = "ETCD_CLIENT_CRL_FILE")]
    pub client_crl_file: Option<PathBuf>,
    /// Host names of which a client's certificate must have one.
    #[arg(long, value_delimiter = ',', env = "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME")]
    pub client_cert_allowed_hostname: Vec<String>,
    /// Revoked peer certificates (PEM or DER); read again when it changes.
    #[arg(long, env = "ETCD_PEER_CRL_FILE")]
    pub peer_crl_file: Option<PathBuf>,
    /// Common names of which a peer's certificate must have one.
    #[arg(
        long,
        value_delimiter = ',',
        env = "ETCD_PEER_CERT_ALLOWED_CN",
        conflicts_with = "peer_cert_allowed_hostname"
    )]
    pub peer_cert_allowed_cn: Vec<String>,
    /// Host names of which a peer's certificate must have one.
    #[arg(long, value_delimiter = ',', env = "ETCD_PEER_CERT_ALLOWED_HOSTNAME")]
    pub peer_cert_allowed_hostname: Vec<String>,
    /// Certificate to show to peers when calling them [default: --peer-cert-file].
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_FILE", requires = "peer_client_key_file")]
    pub peer_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ETCD_PEER_CLIENT_KEY_FILE", requires = "peer_client_cert_file")]
    pub peer_client_key_file: Option<PathBuf>,
    /// Cipher suites of TLS 1.2, by IANA's names [default: all that are safe].
    #[arg(long, value_delimiter = ',', env = "ETCD_CIPHER_SUITES")]
    pub cipher_suites: Vec<String>,
    /// The lowest version of TLS.
    #[arg(long, default_value = "TLS1.2", value_parser = version, env = "ETCD_TLS_MIN_VERSION")]
    pub tls_min_version: TlsVersion,
    /// The highest version of TLS [default: the highest there is].
    #[arg(long, value_parser = version, env = "ETCD_TLS_MAX_VERSION")]
    pub tls_max_version: Option<TlsVersion>,
}

fn version(name: &str) -> Result<TlsVersion, String> {
    match name {
        "TLS1.2" => Ok(TlsVersion::Tls12),
        "TLS1.3" => Ok(TlsVersion::Tls13),
        _ => Err(format!("{name} is neither TLS1.2 nor TLS1.3")),
    }
}

/// etcd gives an empty list as one empty value.
fn given(list: &[String]) -> Vec<String> {
    list.iter().filter(|value| !value.is_empty()).cloned().collect()
}

impl TlsFlags {
    /// For clients.
    pub(crate) fn client_policy(&self) -> TlsPolicy {
        TlsPolicy {
            crl: self.client_crl_file.clone(),
            allowed_host_names: given(&self.client_cert_allowed_hostname),
            ..self.policy()
        }
    }

    /// For peers.
    pub(crate) fn peer_policy(&self) -> TlsPolicy {
        TlsPolicy {
            crl: self.peer_crl_file.clone(),
            allowed_common_names: given(&self.peer_cert_allowed_cn),
            allowed_host_names: given(&self.peer_cert_allowed_hostname),
            ..self.policy()
        }
    }

    fn policy(&self) -> TlsPolicy {
        TlsPolicy {
            cipher_suites: given(&self.cipher_suites),
            min: Some(self.tls_min_version),
            max: self.tls_max_version,
            ..TlsPolicy::default()
        }
    }
}
