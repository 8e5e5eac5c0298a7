//! From flags to a running member.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use xebec_proto::{
    etcdserverpb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    grpc::health::v1::health_server::HealthServer,
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use xebec_store_raft::{Member, PeerService, StartError, start};

use crate::{
    Flags,
    auth::{self, AuthService, Authenticator},
    cluster::ClusterService,
    concurrency::{ElectionService, LockService},
    context::{Context, Limits},
    front::Front,
    initial,
    kv::KvService,
    learner,
    lease::LeaseService,
    listen::{self, Endpoint},
    maintenance::{HealthService, MaintenanceService},
    metrics, tls, upkeep,
    watch::WatchService,
};

/// Bytes by which a message may be larger than a request may be, before it is refused unread (etcd `grpcOverheadBytes`).
pub(crate) const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

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
    let flags = match &flags.config_file {
        Some(path) => crate::flags::read_config_file(path).map_err(Error::Flag)?,
        None => flags,
    };
    crate::flags::check(&flags).map_err(Error::Flag)?;
    let client_tls = tls::for_clients(&flags)?;
    let peer_tls = tls::for_peers(&flags)?;
    let client_endpoints = endpoints(&flags.listen_client_urls)?;
    let peer_endpoints = endpoints(&flags.listen_peer_urls)?;
    let authenticator = Arc::new(Authenticator::new(&flags)?);
    // Ports first: a member that cannot serve should not stand for election.
    let client_ports = bind(&client_endpoints, client_tls.as_ref()).await?;
    let http_ports = bind(&endpoints(&flags.http.listen_client_http_urls)?, client_tls.as_ref()).await?;
    let metrics_ports = bind(&endpoints(&flags.http.listen_metrics_urls)?, client_tls.as_ref()).await?;
    let client_ports = ClientPorts { client: client_ports, http: http_ports, metrics: metrics_ports };
    let member = start(initial::member_config(&flags, tls::dialer(&flags)?)?).await?;
    let served = match upkeep::initial_check(&member, &flags).await {
        Ok(()) => serve(&flags, &member, authenticator, client_ports, &peer_endpoints, peer_tls.as_ref(), &stop).await,
        Err(error) => Err(error),
    };
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

/// The ports that clients use.
struct ClientPorts {
    client: Vec<Port>,
    http: Vec<Port>,
    metrics: Vec<Port>,
}

/// Opens both ports and publishes the member. Everything runs until the member stops.
async fn serve(
    flags: &Flags,
    member: &Member,
    authenticator: Arc<Authenticator>,
    client_ports: ClientPorts,
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
            let limits = listen::ConnectionLimits::default();
            let until = member.stopped().clone();
            let served = listen::serve(listener, tls.clone(), peer_router.clone(), limits, until);
            member.raft_runtime().spawn(served);
        }
    }
    let context = Context::new(member.clone(), limits(flags), authenticator);
    tokio::spawn(metrics::follow_leaders(context.clone()));
    upkeep::spawn(&context, flags);
    tokio::spawn(auth::expire_tokens(member.clone()));
    let front = Front::new(context.clone(), flags.http.clone(), client_router(&context));
    serve_clients(&front, listen::ConnectionLimits::of(&flags.connections), client_ports);
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

/// The limits that the flags set.
pub(crate) fn limits(flags: &Flags) -> Limits {
    Limits {
        request_bytes_max: flags.max_request_bytes,
        txn_ops_max: flags.max_txn_ops,
        quota_bytes: flags.quota_backend_bytes,
        election_timeout: Duration::from_millis(flags.election_timeout),
        progress_interval: flags.watch_progress_notify_interval,
        response_bytes_max: flags.max_response_bytes_in_flight,
        extensive_metrics: flags.http.metrics == "extensive",
    }
}

/// The gRPC services for clients.
pub(crate) fn client_router(context: &Context) -> Router {
    // Who serves these checks how large messages are, in etcd's words: see `message_limit`.
    let none = usize::MAX;
    tonic::service::Routes::new(KvServer::new(KvService(context.clone())).max_decoding_message_size(none))
        .add_service(WatchServer::new(WatchService(context.clone())).max_decoding_message_size(none))
        .add_service(LeaseServer::new(LeaseService(context.clone())).max_decoding_message_size(none))
        .add_service(AuthServer::new(AuthService(context.clone())).max_decoding_message_size(none))
        .add_service(ClusterServer::new(ClusterService(context.clone())).max_decoding_message_size(none))
        .add_service(MaintenanceServer::new(MaintenanceService(context.clone())).max_decoding_message_size(none))
        .add_service(LockServer::new(LockService(context.clone())).max_decoding_message_size(none))
        .add_service(ElectionServer::new(ElectionService(context.clone())).max_decoding_message_size(none))
        .add_service(HealthServer::new(HealthService(context.clone())).max_decoding_message_size(none))
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(context.member.clone(), learner::refuse))
}

/// Serves clients until the member stops.
fn serve_clients(front: &Front, limits: listen::ConnectionLimits, ports: ClientPorts) {
    let separate = !ports.http.is_empty();
    let serve = |(listener, tls): Port, router: Router| {
        tokio::spawn(listen::serve(listener, tls, router, limits, front.stopped().clone()));
    };
    for port in ports.client {
        let is_tls = port.1.is_some();
        serve(port, if separate { front.grpc() } else { front.both(is_tls) });
    }
    for port in ports.http {
        let is_tls = port.1.is_some();
        serve(port, front.http(is_tls));
    }
    for port in ports.metrics {
        serve(port, front.metrics());
    }
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
