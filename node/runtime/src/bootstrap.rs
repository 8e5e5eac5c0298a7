//! How a node comes to its identity: the cluster's CA by its hash, then certificates by CertificateSigningRequest.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use kube::api::{Api, ObjectMeta, PostParams};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use xebec_pki::{Identity, Issued, KeyAndRequest, read_certificates, spki_sha256};

/// Pause between attempts to reach a master, or to get a certificate.
const RETRY: Duration = Duration::from_millis(500);
/// Attempts between two lines of progress in the log.
const ATTEMPTS_PER_LINE: u32 = 20;
/// A fresh token may be unknown to a master whose cache lags; after this many refusals it counts as wrong.
const REFUSALS_MAX: u32 = 10;
/// Bound on one handshake with a master.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long one request may stay unanswered by the signer before another is made.
const SIGNING_MAX: Duration = Duration::from_secs(60);
/// How often a certificate's age is looked at.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);
/// A certificate is renewed when less than this part of its life is left.
const RENEW_AT_REMAINING_PERCENT: i64 = 25;
/// A certificate with less than this left counts as expired at start.
const EXPIRED_MARGIN_SECONDS: i64 = 60;

/// Why a node has no identity (yet).
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A file under the data directory.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] xebec_pki::Error),
    /// A master was reached, but it is not of the cluster we were told of.
    #[error("{server} shows no certificate authority with the expected hash")]
    WrongAuthority {
        /// Its URL.
        server: String,
    },
    /// No master was reached.
    #[error("{server}: {reason}")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The API server refused.
    #[error("certificate signing request: {0}")]
    Api(#[from] kube::Error),
    /// The API server does not know our token, or no longer.
    #[error(
        "the API servers refuse this node's token; make a new one with `xebec token create` and start {node} with it"
    )]
    Unauthorized {
        /// The node.
        node: String,
    },
    /// The request was denied or failed.
    #[error("certificate signing request {name} was not granted: {reason}")]
    Denied {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Where a node keeps its certificates.
#[derive(Debug, Clone)]
pub struct Identities {
    dir: PathBuf,
}

impl Identities {
    /// Under `data_dir`; makes the directory.
    pub fn new(data_dir: &Path) -> Result<Self, BootstrapError> {
        let dir = data_dir.join("pki");
        fs::create_dir_all(&dir).map_err(|source| BootstrapError::File { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// The cluster's CA.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate and its key, by stem: `kubelet-client` or `kubelet-server`.
    pub fn pair(&self, stem: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(format!("{stem}.crt")), self.dir.join(format!("{stem}.key")))
    }

    /// Seconds for which the certificate is still good, if it is one of `common_name`.
    fn seconds_left(&self, stem: &str, common_name: &str) -> Option<i64> {
        let (certificate, key) = self.pair(stem);
        let chain = read_certificates(&certificate).ok().filter(|_| key.exists())?;
        let identity = Identity::from_der(chain.first()?).ok()?;
        (identity.common_name == common_name).then(|| identity.not_after_unix_seconds - Timestamp::now().as_second())
    }

    /// Whether the certificate can be used.
    pub fn is_good(&self, stem: &str, common_name: &str) -> bool {
        self.seconds_left(stem, common_name).is_some_and(|left| left > EXPIRED_MARGIN_SECONDS)
    }
}

/// What a certificate is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where it is kept.
    pub stem: &'static str,
    /// Who signs it.
    pub signer: &'static str,
    /// What it is for, beside digital signatures.
    pub usage: &'static str,
    /// The node's name.
    pub node: String,
    /// Addresses it names; empty for a client certificate.
    pub addresses: Vec<IpAddr>,
}

impl Wish {
    /// The node's certificate as a client.
    pub fn client(node: &str) -> Self {
        Self {
            stem: "kubelet-client",
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usage: "client auth",
            node: node.to_owned(),
            addresses: Vec::new(),
        }
    }

    /// The kubelet's certificate as a server.
    pub fn serving(node: &str, address: IpAddr) -> Self {
        Self {
            stem: "kubelet-server",
            signer: "kubernetes.io/kubelet-serving",
            usage: "server auth",
            node: node.to_owned(),
            addresses: vec![address],
        }
    }

    /// The subject's common name.
    pub fn common_name(&self) -> String {
        format!("system:node:{}", self.node)
    }
}

/// Fetches the CA that has this hash from any of the masters; tries until `stop`.
pub async fn discover_ca(
    identities: &Identities,
    servers: &[String],
    hash: &str,
    stop: &CancellationToken,
) -> Result<(), BootstrapError> {
    let mut attempts = 0_u32;
    while !identities.ca().exists() && !stop.is_cancelled() {
        for server in servers {
            match authority_of(server, hash).await {
                Ok(pem) => {
                    let path = identities.ca();
                    crate::kubelet::write_atomically(&path, pem.as_bytes())
                        .map_err(|source| BootstrapError::File { path, source })?;
                    tracing::info!(server, "cluster CA verified by its hash");
                    return Ok(());
                }
                Err(error @ BootstrapError::WrongAuthority { .. }) => return Err(error),
                Err(error) if attempts.is_multiple_of(ATTEMPTS_PER_LINE) => {
                    tracing::warn!(%error, "no master reached yet");
                }
                Err(_) => {}
            }
        }
        attempts += 1;
        pause(RETRY, stop).await;
    }
    Ok(())
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// The PEM of the certificate with this key hash in the chain that `server` shows.
async fn authority_of(server: &str, hash: &str) -> Result<String, BootstrapError> {
    let unreachable = |reason: String| BootstrapError::Unreachable { server: server.to_owned(), reason };
    let uri: http::Uri = server.parse().map_err(|error| unreachable(format!("{error}")))?;
    let host = uri.host().ok_or_else(|| unreachable("no host".into()))?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.clone()).map_err(|error| unreachable(error.to_string()))?;
    let handshake = async {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        // Nothing is sent over this connection: the hash decides, and every later one trusts only the CA that has it.
        tokio_rustls::TlsConnector::from(xebec_pki::unverified_client_config()).connect(name, stream).await
    };
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {HANDSHAKE_MAX:?}"))),
    };
    let expected = hash.strip_prefix("sha256:").unwrap_or(hash).to_ascii_lowercase();
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = chain.iter().find(|der| {
        spki_sha256(der)
            .is_ok_and(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == expected)
    });
    let der = found.ok_or_else(|| BootstrapError::WrongAuthority { server: server.to_owned() })?;
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
}

/// Gets a certificate and stores it; tries until `stop`, through masters that come and go.
///
/// # Errors
/// [`BootstrapError::Unauthorized`] when the API server goes on refusing our credentials: no waiting mends that.
pub async fn obtain(
    identities: &Identities,
    client: &kube::Client,
    wish: &Wish,
    stop: &CancellationToken,
) -> Result<(), BootstrapError> {
    let (mut attempts, mut refusals) = (0_u32, 0_u32);
    while !stop.is_cancelled() {
        match request(identities, client, wish, stop).await {
            Ok(()) => return Ok(()),
            Err(BootstrapError::Api(kube::Error::Api(status))) if status.code == 401 && refusals >= REFUSALS_MAX => {
                return Err(BootstrapError::Unauthorized { node: wish.node.clone() });
            }
            Err(BootstrapError::Api(kube::Error::Api(status))) if status.code == 401 => refusals += 1,
            Err(error) if attempts.is_multiple_of(ATTEMPTS_PER_LINE) => {
                tracing::warn!(node = wish.node, signer = wish.signer, %error, "no certificate yet");
            }
            Err(_) => {}
        }
        attempts += 1;
        pause(RETRY, stop).await;
    }
    Ok(())
}

async fn request(
    identities: &Identities,
    client: &kube::Client,
    wish: &Wish,
    stop: &CancellationToken,
) -> Result<(), BootstrapError> {
    let dns_names = if wish.addresses.is_empty() { Vec::new() } else { vec![wish.node.clone()] };
    let key = KeyAndRequest::generate(&wish.common_name(), Some("system:nodes"), &dns_names, &wish.addresses)?;
    let name = format!("node-csr-{}", uuid::Uuid::new_v4().simple());
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(key.request_pem.clone().into_bytes()),
            signer_name: wish.signer.to_owned(),
            usages: Some(vec!["digital signature".into(), wish.usage.into()]),
            ..Default::default()
        },
        status: None,
    };
    api.create(&PostParams::default(), &object).await?;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < SIGNING_MAX && !stop.is_cancelled() {
        let status = api.get(&name).await?.status.unwrap_or_default();
        let refused =
            status.conditions.iter().flatten().find(|found| matches!(found.type_.as_str(), "Denied" | "Failed"));
        if let Some(refused) = refused {
            let reason = refused.message.clone().unwrap_or_else(|| refused.type_.clone());
            return Err(BootstrapError::Denied { name, reason });
        }
        if let Some(certificate) = status.certificate.filter(|bytes| !bytes.0.is_empty()) {
            let certificate_pem = String::from_utf8_lossy(&certificate.0).into_owned();
            let issued = Issued { certificate_pem, key_pem: key.key_pem };
            issued.write(&identities.dir, wish.stem)?;
            tracing::info!(node = wish.node, signer = wish.signer, "certificate obtained");
            return Ok(());
        }
        pause(RETRY, stop).await;
    }
    Err(BootstrapError::Denied { name, reason: format!("not signed within {SIGNING_MAX:?}") })
}

/// Keeps a certificate fresh until `stop`; whoever uses it reads its files again.
pub async fn keep_fresh(identities: Identities, client: kube::Client, wish: Wish, stop: CancellationToken) {
    let mut lifetime = identities.seconds_left(wish.stem, &wish.common_name()).unwrap_or(0);
    while !stop.is_cancelled() {
        let left = identities.seconds_left(wish.stem, &wish.common_name()).unwrap_or(0);
        if left * 100 <= lifetime * RENEW_AT_REMAINING_PERCENT {
            if let Err(error) = obtain(&identities, &client, &wish, &stop).await {
                tracing::warn!(%error, "certificate not renewed yet");
            }
            lifetime = identities.seconds_left(wish.stem, &wish.common_name()).unwrap_or(0);
        }
        pause(RENEWAL_CHECK, &stop).await;
    }
}
