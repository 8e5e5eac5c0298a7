//! The component's entry: identity, balancer, kubelets, the node's network services.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::{ConnectError, ConnectOptions, Connection, balancer::BalancerError};

use crate::{
    Flags,
    agent::{self, Identity},
    bootstrap::{self, BootstrapError, Identities, Wish},
};

/// Hollow nodes that ask for their certificates at the same time.
const BOOTSTRAPS_AT_ONCE: usize = 16;

/// Why the node agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag cannot be used as given.
    #[error("--{flag}: {reason}")]
    Flag {
        /// The flag, without dashes.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The API server cannot be spoken to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The balancer cannot run.
    #[error("balancer: {0}")]
    Balancer(#[from] BalancerError),
    /// The node got no identity.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Certificates on disk cannot be used.
    #[error(transparent)]
    Pki(#[from] xebec_pki::Error),
    /// A part of the agent ended by itself, which is a defect.
    #[error("{0}")]
    Defect(String),
    /// A directory cannot be made, a file not written, a port not listened on.
    #[error("{what}: {source}")]
    Io {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn flag(flag: &'static str, reason: impl ToString) -> Self {
        Self::Flag { flag, reason: reason.to_string() }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

/// Runs the node agent until `stop` is cancelled. No container is touched when it ends.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    if flags.servers.is_empty() && flags.kubeconfig.is_none() {
        return Err(Error::flag("server", "give --server or --kubeconfig"));
    }
    let name = match &flags.node_name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    let servers = servers(&flags, &mut tasks, &stop)?;
    match flags.hollow {
        None => {
            if let Some(identity) = identity(&flags, &name, &servers, flags.data_dir.clone(), &stop).await? {
                tasks.spawn(agent::run(flags, name, identity, stop.clone()));
            }
        }
        Some(count) => {
            let turn = Arc::new(tokio::sync::Semaphore::new(BOOTSTRAPS_AT_ONCE));
            for index in 0..count {
                let (flags, servers, stop, turn) = (flags.clone(), servers.clone(), stop.clone(), turn.clone());
                let name = format!("{name}-{index}");
                tasks.spawn(async move {
                    let dir = flags.data_dir.join(&name);
                    let identity = {
                        let _turn = turn.acquire().await;
                        identity(&flags, &name, &servers, dir.clone(), &stop).await?
                    };
                    match identity {
                        Some(identity) => agent::run(Flags { data_dir: dir, ..flags }, name, identity, stop).await,
                        None => Ok(()),
                    }
                });
            }
        }
    }
    let mut first_error = None;
    while let Some(ended) = tasks.join_next().await {
        let outcome = ended.unwrap_or_else(|error| Err(Error::Defect(error.to_string())));
        if let Err(error) = outcome {
            stop.cancel();
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn host_name() -> Result<String, Error> {
    let name = nix::unistd::gethostname().map_err(|error| Error::flag("node-name", error))?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The servers to speak to: the balancer on this host, which it starts; hollow nodes go to the masters themselves.
fn servers(
    flags: &Flags,
    tasks: &mut JoinSet<Result<(), Error>>,
    stop: &CancellationToken,
) -> Result<Vec<String>, Error> {
    if flags.hollow.is_some() || flags.servers.is_empty() {
        return Ok(flags.servers.clone());
    }
    let backends = flags.servers.iter().map(|url| backend(url)).collect::<Result<Vec<_>, _>>()?;
    let listener = std::net::TcpListener::bind(flags.balancer_listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|source| BalancerError::Listen { listen: flags.balancer_listen, source })?;
    let stop = stop.clone();
    tasks.spawn(async move { Ok(xebec_client::balancer::serve(listener, backends, stop).await?) });
    Ok(vec![format!("https://{}", flags.balancer_listen)])
}

fn backend(url: &str) -> Result<SocketAddr, Error> {
    let wrong = || Error::flag("server", format!("{url:?} is not https://ADDRESS:PORT"));
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
    let ip = host.parse().map_err(|_| wrong())?;
    Ok(SocketAddr::new(ip, uri.port_u16().unwrap_or(6443)))
}

/// Who the node is to the API server; on its first start it finds out here. `None` if it is stopped before.
async fn identity(
    flags: &Flags,
    name: &str,
    servers: &[String],
    data_dir: PathBuf,
    stop: &CancellationToken,
) -> Result<Option<Identity>, Error> {
    std::fs::create_dir_all(&data_dir).map_err(|error| Error::io(data_dir.display().to_string(), error))?;
    let identities = Identities::new(&data_dir)?;
    if let Some(kubeconfig) = &flags.kubeconfig {
        let options = ConnectOptions {
            kubeconfig: Some(kubeconfig.clone()),
            servers: servers.to_vec(),
            component: "node".into(),
            ..Default::default()
        };
        agent::save_kubeconfig_ca(kubeconfig, &identities)?;
        let connection = Connection::open(options).await?;
        return Ok(Some(Identity { connection, identities, own_certificate: false }));
    }
    if !identities.ca().exists() {
        let hash = flags.ca_cert_hash.as_deref();
        let hash = hash.ok_or_else(|| Error::flag("ca-cert-hash", "a new node needs it to know its masters"))?;
        bootstrap::discover_ca(&identities, servers, hash, stop).await?;
    }
    let base = ConnectOptions {
        servers: servers.to_vec(),
        ca_file: Some(identities.ca()),
        component: "node".into(),
        ..Default::default()
    };
    let wish = Wish::client(name);
    if !stop.is_cancelled() && !identities.is_good(wish.stem, &wish.common_name()) {
        let token = flags
            .token
            .clone()
            .ok_or_else(|| Error::flag("token", "a new node needs one to ask for its certificates"))?;
        let client = Connection::open(ConnectOptions { token: Some(token), ..base.clone() }).await?.client()?;
        bootstrap::obtain(&identities, &client, &wish, stop).await?;
    }
    if stop.is_cancelled() {
        return Ok(None);
    }
    let (cert, key) = identities.pair(wish.stem);
    let options = ConnectOptions { cert_file: Some(cert), key_file: Some(key), ..base };
    Ok(Some(Identity { connection: Connection::open(options).await?, identities, own_certificate: true }))
}
