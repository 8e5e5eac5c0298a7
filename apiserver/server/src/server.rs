//! Starting and stopping.

use crate::app::{App, AppParts, Inflight, Settings};
use crate::authn::{Authenticator, SigningKey, read_verifying_keys};
use crate::authz::Authorizer;
use crate::cache::Caches;
use crate::http::serve;
use crate::objects::Objects;
use crate::registry::Registry;
use crate::store::{Store, StoreConfig};
use crate::{Error, Flags, masters, router};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xebec_pki::{ClientTls, ServerTls, TlsConnector};

/// Time that background work may take to end after the last request.
const BACKGROUND_GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop`.
///
/// # Errors
/// Flags, files or the port cannot be used. An absent store is no error: the server starts and is not ready.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    run_on(flags, listener, stop).await
}

/// Serves on a listener that is open already.
///
/// # Errors
/// As [`run`].
pub async fn run_on(flags: Flags, listener: TcpListener, stop: CancellationToken) -> Result<(), Error> {
    let local = listener
        .local_addr()
        .map_err(|source| Error::Listen { address: SocketAddr::new(flags.bind_address, 0), source })?;
    let tls = xebec_pki::server_config(&ServerTls {
        cert: flags.tls_cert_file.clone(),
        key: flags.tls_private_key_file.clone(),
        client_ca: Some(flags.client_ca_file.clone()),
        require_client_cert: false,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    })
    .map_err(|error| Error::Tls(error.to_string()))?;
    // Watches end at once; requests in flight get the grace period.
    let streams = stop.child_token();
    let background = CancellationToken::new();
    let app = Arc::new(build(&flags, local.port(), &streams, &background)?);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(Arc::clone(&app.authorizer).follow(Arc::clone(&app.objects)));
    tasks.spawn(masters::bootstrap(Arc::clone(&app)));
    tasks.spawn(masters::compact(Arc::clone(&app.objects.store)));
    let present = tokio::spawn(masters::present(Arc::clone(&app)));
    tracing::info!(address = %local, "API server listens");
    let handled = Arc::clone(&app);
    let handle = move |peer, request| router::handle(Arc::clone(&handled), peer, request);
    serve(listener, tls, handle, stop, Duration::from_secs(flags.shutdown_grace_seconds)).await;
    if tokio::time::timeout(BACKGROUND_GRACE, present).await.is_err() {
        tracing::debug!("the master's lease was not revoked in time");
    }
    background.cancel();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    Ok(())
}

fn build(flags: &Flags, port: u16, streams: &CancellationToken, background: &CancellationToken) -> Result<App, Error> {
    let advertise_address = flags.advertise_address.unwrap_or_else(|| default_address(flags.bind_address));
    let store = Store::new(&StoreConfig {
        identity: SocketAddr::new(advertise_address, port).to_string(),
        servers: flags.etcd_servers.clone(),
        ca: flags.etcd_cafile.clone(),
        cert: flags.etcd_certfile.clone(),
        key: flags.etcd_keyfile.clone(),
    })
    .map_err(|error| Error::Flag { flag: "etcd-servers", reason: error.to_string() })?;
    let store = Arc::new(store);
    let caches = Caches::new(Arc::clone(&store), background.clone());
    let objects = Arc::new(Objects::new(store, caches, Registry::built_in(), &flags.etcd_prefix));
    let mut keys = Vec::new();
    for path in &flags.service_account_key_file {
        keys.extend(read_verifying_keys(path).map_err(|reason| Error::File { path: path.clone(), reason })?);
    }
    let signing = &flags.service_account_signing_key_file;
    let signing_key = SigningKey::read(signing).map_err(|reason| Error::File { path: signing.clone(), reason })?;
    keys.push(signing_key.public.clone());
    let issuers = flags.service_account_issuer.clone();
    let audiences = if flags.api_audiences.is_empty() {
        issuers.iter().take(1).cloned().collect()
    } else {
        flags.api_audiences.clone()
    };
    let authenticator =
        Authenticator { keys, issuers, audiences, anonymous: flags.anonymous_auth, objects: Arc::clone(&objects) };
    let kubelets = kubelet_connector(flags)?;
    let settings = Settings {
        advertise_address,
        port,
        service_range: flags.service_cluster_ip_range.parse().map_err(|error: ipnet::AddrParseError| Error::Flag {
            flag: "service-cluster-ip-range",
            reason: error.to_string(),
        })?,
        node_ports: port_range(&flags.service_node_port_range)?,
        min_watch_seconds: flags.min_request_timeout,
        max_token_seconds: flags.service_account_max_token_expiration_seconds,
        client_ca_pem: read(&flags.client_ca_file)?,
    };
    Ok(App::new(AppParts {
        objects,
        authenticator,
        authorizer: Arc::new(Authorizer::new()),
        signing_key,
        kubelets,
        settings,
        inflight: Inflight::new(flags.max_requests_inflight, flags.max_mutating_requests_inflight),
        stop: streams.clone(),
    }))
}

fn kubelet_connector(flags: &Flags) -> Result<TlsConnector, Error> {
    let config = xebec_pki::client_config(&ClientTls {
        ca: flags.kubelet_certificate_authority.clone().unwrap_or_else(|| flags.client_ca_file.clone()),
        cert: flags.kubelet_client_certificate.clone(),
        key: flags.kubelet_client_key.clone(),
        alpn: vec![b"http/1.1".to_vec()],
    });
    Ok(TlsConnector::new(config.map_err(|error| Error::Tls(error.to_string()))?))
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, Error> {
    let parsed =
        text.split_once('-').and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?));
    let range = parsed.filter(|range: &RangeInclusive<u16>| !range.is_empty() && *range.start() > 0);
    range.ok_or_else(|| Error::Flag {
        flag: "service-node-port-range",
        reason: format!("{text:?} is not a range such as 30000-32767"),
    })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })
}

/// The address of the default route where the server listens on all; nothing is sent to find it out.
fn default_address(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() {
        return bind;
    }
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    probe().filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
