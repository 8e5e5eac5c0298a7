//! Connections to the API server.
//!
//! A master can vanish (no packets), die (reset) or stop (its kernel answers, the process does not). TCP options
//! notice the first, HTTP/2 pings the last, so even an idle watch fails over within seconds.

use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Builder, Client as HttpClient};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

use crate::dial::{Dial, Server};
use crate::failure::LEADERSHIP_LOST;
use crate::fence::{FENCE_HEADER, Fence, Verdict};
use crate::identity::{FileIdentity, IdentityError};

/// Time between HTTP/2 pings.
const PING_INTERVAL: Duration = Duration::from_millis(2_000);
/// How long a ping may stay unanswered until the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Default bound on waiting for the head of an answer. Watches and log streams answer their head at once too.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept for reuse, per server.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where and as whom to connect: either a kubeconfig or servers with files.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// A kubeconfig file. `servers`, if given too, replace its cluster's server.
    pub kubeconfig: Option<PathBuf>,
    /// URLs of the API servers (`https://host:port`), tried in turn.
    pub servers: Vec<String>,
    /// Authorities the servers' certificates must come from, PEM. Read again about once a minute.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM. Read again when it changes.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// A bearer token, in place of a client certificate.
    pub token: Option<String>,
    /// A complete TLS configuration in place of all of the above (for a node that knows only its CA's hash yet).
    pub tls: Option<Arc<ClientConfig>>,
    /// The component's name, for the User-Agent: `xebec-<component>/<version>`.
    pub component: String,
    /// Bound on waiting for the head of an answer; [`HEAD_TIMEOUT`] if `None`.
    pub head_timeout: Option<Duration>,
    /// Speak HTTP/1.1 only. Needed for WebSocket upgrades (`kube::Client::connect`).
    pub http1_only: bool,
}

/// Why a connection cannot be set up. Nothing here comes from the network: it is dialed on the first request.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is unreadable or inconsistent.
    #[error("unusable kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A server URL is none.
    #[error("{url:?} is no server URL: {reason}")]
    Server {
        /// The URL as given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The client certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS or authentication settings are unusable.
    #[error("unusable connection settings: {0}")]
    Settings(#[source] Box<kube::Error>),
    /// A bearer token or component name that cannot stand in a header.
    #[error("{0} cannot stand in an HTTP header")]
    Header(&'static str),
}

/// A pool of connections to the API servers, from which clients are made.
#[derive(Clone)]
pub struct Connection {
    config: kube::Config,
    dial: Dial,
    http: HttpClient<Dial, Body>,
    user_agent: HeaderValue,
    head_timeout: Duration,
}

impl Connection {
    /// Prepares a connection; does not dial yet.
    pub async fn open(options: ConnectOptions) -> Result<Self, ConnectError> {
        let config = kube_config(&options).await?;
        let tls = Arc::new(tls_config(&options, &config)?);
        let urls =
            if options.servers.is_empty() { vec![config.cluster_url.to_string()] } else { options.servers.clone() };
        let servers =
            urls.iter().map(|url| server(url, config.tls_server_name.as_deref())).collect::<Result<Vec<_>, _>>()?;
        let dial = Dial::new(servers, tls);
        let user_agent = HeaderValue::from_str(&format!("xebec-{}/{}", options.component, env!("CARGO_PKG_VERSION")))
            .map_err(|_| ConnectError::Header("the component's name"))?;
        Ok(Self {
            http: http_client(dial.clone()),
            config,
            dial,
            user_agent,
            head_timeout: options.head_timeout.unwrap_or(HEAD_TIMEOUT),
        })
    }

    /// The same settings with connections of its own, so that its traffic waits for nobody else's.
    pub fn separate(&self) -> Self {
        Self { http: http_client(self.dial.clone()), ..self.clone() }
    }

    /// A client for reading, and for writes that no leadership guards.
    pub fn client(&self) -> Result<kube::Client, ConnectError> {
        self.build(None)
    }

    /// A client whose writes carry `fence`'s token, and fail with reason `LeadershipLost` (409) once it is lost.
    pub fn fenced(&self, fence: &Fence) -> Result<kube::Client, ConnectError> {
        self.build(Some(fence.clone()))
    }

    fn build(&self, fence: Option<Fence>) -> Result<kube::Client, ConnectError> {
        let settings = |error| ConnectError::Settings(Box::new(error));
        let transport = Transport {
            http: self.http.clone(),
            fence,
            user_agent: self.user_agent.clone(),
            head_timeout: self.head_timeout,
        };
        let service = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .option_layer(self.config.auth_layer().map_err(settings)?)
            .layer(self.config.extra_headers_layer().map_err(settings)?)
            .service(transport);
        Ok(kube::Client::new(service, self.config.default_namespace.clone()))
    }
}

async fn kube_config(options: &ConnectOptions) -> Result<kube::Config, ConnectError> {
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => {
            let url = options.servers.first().cloned().unwrap_or_default();
            kube::Config::new(parse_url(&url)?)
        }
    };
    if let Some(url) = options.servers.first() {
        config.cluster_url = parse_url(url)?;
    }
    if let Some(ca) = &options.ca_file {
        config.root_cert_file = Some(ca.clone());
    }
    if let Some(token) = &options.token {
        let info = serde_json::json!({ "token": token });
        config.auth_info =
            serde_json::from_value::<AuthInfo>(info).map_err(|_| ConnectError::Header("the bearer token"))?;
    }
    Ok(config)
}

fn tls_config(options: &ConnectOptions, config: &kube::Config) -> Result<ClientConfig, ConnectError> {
    let mut tls = match &options.tls {
        Some(tls) => ClientConfig::clone(tls),
        None => config.rustls_client_config().map_err(|error| ConnectError::Settings(Box::new(error)))?,
    };
    if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
        tls.client_auth_cert_resolver = Arc::new(FileIdentity::open(cert.clone(), key.clone())?);
    }
    tls.alpn_protocols = match options.http1_only {
        true => vec![b"http/1.1".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(tls)
}

fn parse_url(url: &str) -> Result<Uri, ConnectError> {
    url.parse::<Uri>().map_err(|error| ConnectError::Server { url: url.to_owned(), reason: error.to_string() })
}

fn server(url: &str, tls_server_name: Option<&str>) -> Result<Server, ConnectError> {
    let refuse = |reason: &str| ConnectError::Server { url: url.to_owned(), reason: reason.to_owned() };
    let uri = parse_url(url)?;
    let host = uri.host().ok_or_else(|| refuse("no host"))?.trim_matches(['[', ']']).to_owned();
    let (default_port, secure) = match uri.scheme_str() {
        Some("https") => (443, true),
        Some("http") => (80, false),
        _ => return Err(refuse("the scheme must be https")),
    };
    let name = tls_server_name.unwrap_or(&host).to_owned();
    let tls_name = match secure {
        true => Some(ServerName::try_from(name).map_err(|_| refuse("no valid host name"))?),
        false => None,
    };
    Ok(Server { port: uri.port_u16().unwrap_or(default_port), host, tls_name })
}

fn http_client(dial: Dial) -> HttpClient<Dial, Body> {
    Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(dial)
}

/// A request was not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the API server within {0:?}")]
pub struct NoAnswer(Duration);

/// Adds the User-Agent and the fence, and bounds the wait for an answer's head.
#[derive(Clone)]
struct Transport {
    http: HttpClient<Dial, Body>,
    fence: Option<Fence>,
    user_agent: HeaderValue,
    head_timeout: Duration,
}

impl tower::Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The HTTP client is always ready: it queues nothing, it dials.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(http::header::USER_AGENT, self.user_agent.clone());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if let (false, Some(fence)) = (reads, &self.fence) {
            match fence.judge() {
                Verdict::Tagged(token) => {
                    request.headers_mut().insert(FENCE_HEADER, token);
                }
                Verdict::Plain => {}
                Verdict::Refused => return Box::pin(async { Err(BoxError::from(leadership_lost())) }),
            }
        }
        let (answer, head_timeout) = (self.http.request(request), self.head_timeout);
        Box::pin(async move {
            match tokio::time::timeout(head_timeout, answer).await {
                Ok(answer) => answer.map_err(BoxError::from),
                Err(_) => Err(NoAnswer(head_timeout).into()),
            }
        })
    }
}

fn leadership_lost() -> kube::Error {
    let mut status = kube::core::Status::failure("the leadership this write belongs to is over", LEADERSHIP_LOST);
    status.code = 409;
    kube::Error::Api(status.boxed())
}
