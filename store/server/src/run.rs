//! From flags to a running member.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint as ChannelEndpoint;
use xebec_pki::{ClientTls, ServerTls, TlsConnector};
use xebec_proto::{
    etcdserverpb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    grpc::health::v1::health_server::HealthServer,
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use xebec_store_raft::{Dialer, Member, PeerService, PeerTransport, StartError, start, transport};

use crate::{
    Flags,
    auth::{self, AuthService, Authenticator},
    cluster::ClusterService,
    concurrency::{ElectionService, LockService},
    context::{Context, Limits},
    http, initial,
    kv::KvService,
    learner,
    lease::LeaseService,
    listen::{self, Endpoint},
    maintenance::{HealthService, MaintenanceService},
    watch::WatchService,
};

/// Bytes that gRPC may add to a request before it is refused unread (etcd `grpcOverheadBytes`).
const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// A peer that does not take a connection in this time counts as down.
const PEER_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Silence on a peer connection after which it is probed, and how long the answer may take.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// HTTP/2 window of peer connections, in bytes.
const PEER_WINDOW_BYTES: u32 = 8 << 20;

/// Why a store member could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag is wrong.
    #[error("{0}")]
    Flag(String),
    /// A port cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Certificates cannot be used.
    #[error("certificates: {0}")]
    Certificates(#[from] xebec_pki::Error),
    /// The member cannot start on its data.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Raft has stopped by itself; the log says why.
    #[error("the member has stopped: {0}")]
    Stopped(String),
}

/// Runs a member until `stop`.
///
/// # Errors
/// Anything that keeps the member from serving. Damaged data is refused, never reset.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    let client_tls = server_tls(&flags.cert_file, &flags.key_file, &flags.trusted_ca_file, flags.client_cert_auth)?;
    let peer_tls = server_tls(
        &flags.peer_cert_file,
        &flags.peer_key_file,
        &flags.peer_trusted_ca_file,
        flags.peer_client_cert_auth,
    )?;
    let client_endpoints = endpoints(&flags.listen_client_urls)?;
    let peer_endpoints = endpoints(&flags.listen_peer_urls)?;
    let authenticator = Arc::new(Authenticator::new(&flags)?);
    // Ports first: a member that cannot serve should not stand for election.
    let client_ports = bind(&client_endpoints, client_tls.as_ref()).await?;
    let member = start(initial::member_config(&flags, dialer(&flags)?)?).await?;
    let served = serve(&flags, &member, authenticator, client_ports, &peer_endpoints, peer_tls.as_ref(), &stop).await;
    if served.is_ok() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = member.stopped().cancelled() => {}
        }
    }
    let failed = member.status().failed;
    member.stop().await;
    served?;
    match failed {
        Some(reason) if !stop.is_cancelled() => Err(Error::Stopped(reason)),
        _ => Ok(()),
    }
}

type Port = (tokio::net::TcpListener, Option<Arc<ServerConfig>>);

/// Opens both ports and publishes the member. Everything runs until the member stops.
async fn serve(
    flags: &Flags,
    member: &Member,
    authenticator: Arc<Authenticator>,
    client_ports: Vec<Port>,
    peer_endpoints: &[Endpoint],
    peer_tls: Option<&Arc<ServerConfig>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let peer_router = PeerService::routes(member).into_axum_router();
    for endpoint in peer_endpoints {
        let tls = tls_of(endpoint, peer_tls)?;
        // On Raft's runtime: heartbeats must not wait for clients.
        let (address, is_tls) = (endpoint.address.clone(), endpoint.is_tls);
        let bound = member.raft_runtime().spawn(async move { Endpoint { address, is_tls }.bind().await });
        for listener in bound.await.map_err(|error| Error::Stopped(error.to_string()))?? {
            let served = listen::serve(listener, tls.clone(), peer_router.clone(), member.stopped().clone());
            member.raft_runtime().spawn(served);
        }
    }
    let limits = Limits {
        request_bytes_max: flags.max_request_bytes,
        txn_ops_max: flags.max_txn_ops,
        quota_bytes: flags.quota_backend_bytes,
        election_timeout: Duration::from_millis(flags.election_timeout),
        progress_interval: Duration::from_secs(flags.watch_progress_notify_interval),
    };
    let router = client_router(&Context::new(member.clone(), limits, authenticator));
    tokio::spawn(auth::expire_tokens(member.clone()));
    for (listener, tls) in client_ports {
        let until = member.stopped().clone();
        tokio::spawn(listen::serve(listener, tls, router.clone(), until));
    }
    let (published, name, urls) = (member.clone(), flags.name.clone(), flags.advertise_client_urls.clone());
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = published.publish(&name, &urls) => {}
            () = stop.cancelled() => {}
        }
    });
    tracing::info!(
        member = format!("{:x}", member.id()),
        cluster = format!("{:x}", member.cluster_id()),
        clients = ?flags.listen_client_urls,
        peers = ?flags.listen_peer_urls,
        "store member started"
    );
    Ok(())
}

/// gRPC services and HTTP endpoints on one port.
fn client_router(context: &Context) -> Router {
    let bytes_max = context.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
    let kv = KvServer::new(KvService(context.clone())).max_decoding_message_size(bytes_max);
    let watch = WatchServer::new(WatchService(context.clone())).max_decoding_message_size(bytes_max);
    let lease = LeaseServer::new(LeaseService(context.clone()));
    tonic::service::Routes::new(kv)
        .add_service(watch)
        .add_service(lease)
        .add_service(AuthServer::new(AuthService(context.clone())))
        .add_service(ClusterServer::new(ClusterService(context.clone())))
        .add_service(MaintenanceServer::new(MaintenanceService(context.clone())))
        .add_service(LockServer::new(LockService(context.clone())))
        .add_service(ElectionServer::new(ElectionService(context.clone())))
        .add_service(HealthServer::new(HealthService(context.clone())))
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(context.member.clone(), learner::refuse))
        .merge(http::routes(context.clone()))
}

fn endpoints(urls: &[String]) -> Result<Vec<Endpoint>, Error> {
    urls.iter().map(|url| Endpoint::parse(url)).collect()
}

async fn bind(endpoints: &[Endpoint], tls: Option<&Arc<ServerConfig>>) -> Result<Vec<Port>, Error> {
    let mut ports = Vec::new();
    for endpoint in endpoints {
        let tls = tls_of(endpoint, tls)?;
        ports.extend(endpoint.bind().await?.into_iter().map(|listener| (listener, tls.clone())));
    }
    Ok(ports)
}

fn tls_of(endpoint: &Endpoint, tls: Option<&Arc<ServerConfig>>) -> Result<Option<Arc<ServerConfig>>, Error> {
    match (endpoint.is_tls, tls) {
        (false, _) => Ok(None),
        (true, Some(tls)) => Ok(Some(tls.clone())),
        (true, None) => Err(Error::Flag(format!("https://{} needs a certificate and a key", endpoint.address))),
    }
}

fn server_tls(
    cert: &Option<PathBuf>,
    key: &Option<PathBuf>,
    client_ca: &Option<PathBuf>,
    require_client_cert: bool,
) -> Result<Option<Arc<ServerConfig>>, Error> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            if require_client_cert && client_ca.is_none() {
                return Err(Error::Flag("client certificates need a trusted CA file".to_owned()));
            }
            let tls = ServerTls {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
                require_client_cert,
                alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            };
            Ok(Some(xebec_pki::server_config(&tls)?))
        }
        _ => Err(Error::Flag("a certificate and its key must be given together".to_owned())),
    }
}

/// Opens channels to peers, with this member's peer certificate where the URL asks for TLS.
fn dialer(flags: &Flags) -> Result<Dialer, Error> {
    let connector = match &flags.peer_trusted_ca_file {
        None => TlsConnector::plaintext(),
        Some(ca) => TlsConnector::new(xebec_pki::client_config(&ClientTls {
            ca: ca.clone(),
            cert: flags.peer_cert_file.clone(),
            key: flags.peer_key_file.clone(),
            alpn: vec![b"h2".to_vec()],
        })?),
    };
    Ok(Arc::new(move |urls: &[String]| -> Result<PeerTransport, String> {
        let url = urls.first().ok_or("the member has no peer URL")?;
        let endpoint = ChannelEndpoint::from_shared(url.clone())
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
