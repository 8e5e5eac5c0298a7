//! What every request needs, in one place.

use crate::authn::{Authenticator, SigningKey};
use crate::authz::Authorizer;
use crate::http::Metrics;
use crate::objects::Objects;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;
use xebec_api::Status;
use xebec_pki::TlsConnector;

/// Requests in flight, by what they do; watches and streams do not count.
pub struct Inflight {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl Inflight {
    /// Bounds by number of requests.
    pub fn new(reading: usize, writing: usize) -> Self {
        Self { reading: Arc::new(Semaphore::new(reading.max(1))), writing: Arc::new(Semaphore::new(writing.max(1))) }
    }

    /// A place for a request.
    ///
    /// # Errors
    /// 429 if there is none.
    pub fn enter(&self, reads: bool) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        let places = if reads { &self.reading } else { &self.writing };
        Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| Status::too_many_requests("Too many requests, please try again later.", 1))
    }
}

/// Settings that handlers look at.
pub struct Settings {
    /// Address under which members of the cluster reach this API server.
    pub advertise_address: IpAddr,
    /// Port under which they do.
    pub port: u16,
    /// Range of ClusterIPs.
    pub service_range: ipnet::IpNet,
    /// Range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Lower bound of a watch's lifetime in seconds.
    pub min_watch_seconds: u64,
    /// Longest lifetime of a ServiceAccount token in seconds; 0: no bound.
    pub max_token_seconds: u64,
    /// PEM of the client CA, published for extension API servers.
    pub client_ca_pem: String,
}

/// An API server.
pub struct App {
    /// Objects in store and cache.
    pub objects: Arc<Objects>,
    /// Who.
    pub authenticator: Authenticator,
    /// May they.
    pub authorizer: Arc<Authorizer>,
    /// Signs ServiceAccount tokens.
    pub signing_key: SigningKey,
    /// Dials kubelets.
    pub kubelets: TlsConnector,
    /// Settings.
    pub settings: Settings,
    /// Counters.
    pub metrics: Metrics,
    /// Bounds.
    pub inflight: Inflight,
    /// Ends watches and streams at shutdown.
    pub stop: CancellationToken,
    bootstrapped: AtomicBool,
    node_ports: Arc<Mutex<()>>,
}

impl App {
    /// An API server that is not bootstrapped yet.
    pub fn new(parts: AppParts) -> Self {
        let AppParts { objects, authenticator, authorizer, signing_key, kubelets, settings, inflight, stop } = parts;
        Self {
            objects,
            authenticator,
            authorizer,
            signing_key,
            kubelets,
            settings,
            metrics: Metrics::new(),
            inflight,
            stop,
            bootstrapped: AtomicBool::new(false),
            node_ports: Arc::new(Mutex::new(())),
        }
    }

    /// The turn of a write that changes the claimed node ports; it ends with the guard.
    pub async fn node_ports_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.node_ports).lock_owned().await
    }

    /// Whether namespaces and RBAC policy are in place.
    pub fn bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }

    /// Marks that they are.
    pub fn set_bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }
}

/// What [`App::new`] is made of.
pub struct AppParts {
    /// Objects in store and cache.
    pub objects: Arc<Objects>,
    /// Who.
    pub authenticator: Authenticator,
    /// May they.
    pub authorizer: Arc<Authorizer>,
    /// Signs ServiceAccount tokens.
    pub signing_key: SigningKey,
    /// Dials kubelets.
    pub kubelets: TlsConnector,
    /// Settings.
    pub settings: Settings,
    /// Bounds.
    pub inflight: Inflight,
    /// Ends watches and streams at shutdown.
    pub stop: CancellationToken,
}
