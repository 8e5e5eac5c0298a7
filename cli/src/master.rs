//! A whole master in one process. Every component gets the flags it would get on a command line of its own, so that a
//! master taken apart behaves as one taken whole.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Parser};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a master needs to know; everything else follows from its certificate directory.
#[derive(Args, Debug)]
pub struct Flags {
    /// Name of this master, as in --initial-cluster
    #[arg(long)]
    name: String,
    /// Certificates and keys (see ARCHITECTURE.md, "Certificates of a master")
    #[arg(long)]
    cert_dir: PathBuf,
    /// The store's data, and files this master writes for itself
    #[arg(long)]
    data_dir: PathBuf,
    /// Address under which the other masters and the nodes reach this one
    #[arg(long)]
    advertise_address: IpAddr,
    /// Port of the API server
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Port of the store for clients
    #[arg(long, default_value_t = 2379)]
    store_client_port: u16,
    /// Port of the store for its peers
    #[arg(long, default_value_t = 2380)]
    store_peer_port: u16,
    /// The stores' first members: name=https://address:port,...
    #[arg(long)]
    initial_cluster: String,
    /// `new` when the cluster is founded; members that are added later start with `existing`
    #[arg(long, default_value = "new")]
    initial_cluster_state: String,
    /// Tells clusters apart
    #[arg(long, default_value = "xebec")]
    initial_cluster_token: String,
    /// Addresses of Services
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cluster_ip_range: String,
    /// Addresses of pods
    #[arg(long, default_value = "10.244.0.0/16")]
    cluster_cidr: String,
    /// A node that has been silent for so long is not ready
    #[arg(long, default_value = "40s")]
    node_monitor_grace_period: String,
    /// Where the scheduler answers health checks
    #[arg(long, default_value = "127.0.0.1:10259")]
    scheduler_health_address: SocketAddr,
    /// Where the controllers answer health checks
    #[arg(long, default_value = "127.0.0.1:10257")]
    controllers_health_address: SocketAddr,
}

/// Runs all components until asked to stop, or until one of them fails: then the process ends, so that whatever
/// supervises it starts a whole master again rather than keeping half of one.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<()> {
    fs::create_dir_all(&flags.data_dir).with_context(|| format!("cannot create {}", flags.data_dir.display()))?;
    let mut components: JoinSet<(&str, Result<()>)> = JoinSet::new();
    let store = parse::<xebec_store::Flags>(store_arguments(&flags))?;
    let apiserver = parse::<xebec_apiserver::Flags>(apiserver_arguments(&flags))?;
    let scheduler = parse::<xebec_scheduler::Flags>(scheduler_arguments(&flags)?)?;
    let controllers = parse::<xebec_controllers::Flags>(controllers_arguments(&flags)?)?;
    // Clients stop before the servers they talk to.
    let (servers_stop, clients_stop) = (CancellationToken::new(), stop.child_token());
    let token = servers_stop.clone();
    components.spawn(async move { ("store", xebec_store::run(store, token).await.map_err(Into::into)) });
    let token = servers_stop.clone();
    components.spawn(async move { ("apiserver", xebec_apiserver::run(apiserver, token).await.map_err(Into::into)) });
    let token = clients_stop.clone();
    components.spawn(async move { ("scheduler", xebec_scheduler::run(scheduler, token).await.map_err(Into::into)) });
    components.spawn(async move {
        ("controllers", xebec_controllers::run(controllers, clients_stop).await.map_err(Into::into))
    });
    let mut failure = None;
    while let Some(ended) = components.join_next().await {
        let (name, result) = ended.context("a component panicked")?;
        match result {
            Err(error) => failure = failure.or(Some(error.context(format!("{name} failed")))),
            Ok(()) if !stop.is_cancelled() => failure = failure.or_else(|| Some(anyhow!("{name} ended by itself"))),
            Ok(()) => {}
        }
        stop.cancel();
        servers_stop.cancel();
    }
    failure.map_or(Ok(()), Err)
}

/// Any component's flags as a command line of their own.
#[derive(Parser)]
struct CommandLine<F: Args> {
    #[command(flatten)]
    flags: F,
}

fn parse<F: Args>(arguments: Vec<String>) -> Result<F> {
    let line = std::iter::once("xebec".to_owned()).chain(arguments);
    Ok(CommandLine::<F>::try_parse_from(line)?.flags)
}

fn store_arguments(flags: &Flags) -> Vec<String> {
    let certs = flags.cert_dir.join("etcd");
    let file = |name: &str| certs.join(name).display().to_string();
    let (address, client, peer) = (flags.advertise_address, flags.store_client_port, flags.store_peer_port);
    let mut client_urls = format!("https://{address}:{client}");
    if !address.is_loopback() {
        client_urls.push_str(&format!(",https://127.0.0.1:{client}"));
    }
    vec![
        format!("--name={}", flags.name),
        format!("--data-dir={}", flags.data_dir.join("store").display()),
        format!("--listen-client-urls={client_urls}"),
        format!("--advertise-client-urls=https://{address}:{client}"),
        format!("--listen-peer-urls=https://{address}:{peer}"),
        format!("--initial-advertise-peer-urls=https://{address}:{peer}"),
        format!("--initial-cluster={}", flags.initial_cluster),
        format!("--initial-cluster-state={}", flags.initial_cluster_state),
        format!("--initial-cluster-token={}", flags.initial_cluster_token),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", file("ca.crt")),
        format!("--peer-cert-file={}", file("peer.crt")),
        format!("--peer-key-file={}", file("peer.key")),
        "--peer-client-cert-auth".to_owned(),
        format!("--peer-trusted-ca-file={}", file("ca.crt")),
    ]
}

fn apiserver_arguments(flags: &Flags) -> Vec<String> {
    let file = |name: &str| flags.cert_dir.join(name).display().to_string();
    vec![
        format!("--advertise-address={}", flags.advertise_address),
        format!("--bind-address={}", bind_address(flags.advertise_address)),
        format!("--secure-port={}", flags.secure_port),
        // Only the member beside it: if that is gone, so is this process.
        format!("--etcd-servers=https://{}:{}", flags.advertise_address, flags.store_client_port),
        format!("--etcd-cafile={}", file("etcd/ca.crt")),
        format!("--etcd-certfile={}", file("apiserver-etcd-client.crt")),
        format!("--etcd-keyfile={}", file("apiserver-etcd-client.key")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-cluster-ip-range={}", flags.service_cluster_ip_range),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
    ]
}

/// Loopback masters share one address and listen on it only; others listen on every address of their host.
fn bind_address(advertised: IpAddr) -> IpAddr {
    if advertised.is_loopback() { advertised } else { std::net::Ipv4Addr::UNSPECIFIED.into() }
}

fn scheduler_arguments(flags: &Flags) -> Result<Vec<String>> {
    Ok(vec![
        format!("--kubeconfig={}", kubeconfig(flags, "scheduler")?.display()),
        format!("--leader-elect-identity={}", flags.name),
        format!("--health-address={}", flags.scheduler_health_address),
    ])
}

fn controllers_arguments(flags: &Flags) -> Result<Vec<String>> {
    let file = |name: &str| flags.cert_dir.join(name).display().to_string();
    Ok(vec![
        format!("--kubeconfig={}", kubeconfig(flags, "controller-manager")?.display()),
        format!("--leader-elect-identity={}", flags.name),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={}", flags.cluster_cidr),
        format!("--service-cluster-ip-range={}", flags.service_cluster_ip_range),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        format!("--node-monitor-grace-period={}", flags.node_monitor_grace_period),
        format!("--health-address={}", flags.controllers_health_address),
    ])
}

/// Writes the kubeconfig of a component of this master: it talks to the API server beside it, by its certificate.
fn kubeconfig(flags: &Flags, component: &str) -> Result<PathBuf> {
    let file = |name: String| absolute(&flags.cert_dir.join(name));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "local",
        "clusters": [{"name": "local", "cluster": {
            "server": format!("https://127.0.0.1:{}", flags.secure_port),
            "certificate-authority": file("ca.crt".into())?}}],
        "users": [{"name": component, "user": {
            "client-certificate": file(format!("{component}.crt"))?,
            "client-key": file(format!("{component}.key"))?}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": component}}],
    });
    let path = flags.data_dir.join(format!("{component}.kubeconfig"));
    fs::write(&path, serde_json::to_vec_pretty(&config)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))
}
