//! TLS of both ports, and how peers are dialled, as the flags say. Certificates, keys, authorities and revocation lists
//! are read again when their files change (`xebec_pki`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tonic::transport::Endpoint;
use xebec_pki::{ClientTls, ServerTls, TlsConnector, TlsPolicy};
use xebec_store_raft::{Dialer, PeerTransport, transport};

use crate::{Flags, run::Error};

/// A peer that does not take a connection in this time counts as down.
const PEER_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Silence on a peer connection after which it is probed, and how long the answer may take.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// HTTP/2 window of peer connections, in bytes.
const PEER_WINDOW_BYTES: u32 = 8 << 20;

/// For the client port; `None` without a certificate.
pub(crate) fn for_clients(flags: &Flags) -> Result<Option<Arc<ServerConfig>>, Error> {
    let policy = flags.tls.client_policy();
    let files = (&flags.cert_file, &flags.key_file, &flags.trusted_ca_file);
    server("", files, flags.client_cert_auth, &policy)
}

/// For the peer port.
pub(crate) fn for_peers(flags: &Flags) -> Result<Option<Arc<ServerConfig>>, Error> {
    let policy = flags.tls.peer_policy();
    let files = (&flags.peer_cert_file, &flags.peer_key_file, &flags.peer_trusted_ca_file);
    server("peer-", files, flags.peer_client_cert_auth, &policy)
}

type File = Option<PathBuf>;

fn server(
    prefix: &str,
    (cert, key, client_ca): (&File, &File, &File),
    client_cert_auth: bool,
    policy: &TlsPolicy,
) -> Result<Option<Arc<ServerConfig>>, Error> {
    let names_asked = !policy.allowed_common_names.is_empty() || !policy.allowed_host_names.is_empty();
    if client_ca.is_none() && (client_cert_auth || names_asked || policy.crl.is_some()) {
        return Err(Error::Flag(format!("verifying certificates needs --{prefix}trusted-ca-file")));
    }
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => return Err(Error::Flag(format!("--{prefix}cert-file and --{prefix}key-file must be given together"))),
    };
    // As in etcd, whoever names authorities wants certificates (etcd `TLSInfo.ServerConfig`).
    let require_client_cert = client_ca.is_some();
    let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = ServerTls { cert, key, client_ca: client_ca.clone(), require_client_cert, alpn };
    Ok(Some(xebec_pki::server_config_with(&tls, policy)?))
}

/// Opens channels to peers, with this member's certificate where the URL asks for TLS.
pub(crate) fn dialer(flags: &Flags) -> Result<Dialer, Error> {
    let connector = match &flags.peer_trusted_ca_file {
        None => TlsConnector::plaintext(),
        Some(ca) => {
            let tls = ClientTls {
                ca: ca.clone(),
                cert: flags.tls.peer_client_cert_file.clone().or_else(|| flags.peer_cert_file.clone()),
                key: flags.tls.peer_client_key_file.clone().or_else(|| flags.peer_key_file.clone()),
                alpn: vec![b"h2".to_vec()],
            };
            TlsConnector::new(xebec_pki::client_config_with(&tls, &flags.tls.peer_policy())?)
        }
    };
    Ok(Arc::new(move |urls: &[String]| -> Result<PeerTransport, String> {
        let url = urls.first().ok_or("the member has no peer URL")?;
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| error.to_string())?
            .connect_timeout(PEER_CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PEER_KEEP_ALIVE)
            .keep_alive_timeout(PEER_KEEP_ALIVE)
            .initial_stream_window_size(PEER_WINDOW_BYTES)
            .initial_connection_window_size(PEER_WINDOW_BYTES);
        Ok(transport(endpoint.connect_with_connector_lazy(connector.clone())))
    }))
}
