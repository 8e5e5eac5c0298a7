//! One node: its kubelet, its Node object, its server, and the network services of its host.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, config::Kubeconfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::{Cache, Connection, ObjectKey, Recorder};
use xebec_node_core::{cni, pod, resources};

use crate::{
    Error, Flags,
    bootstrap::{self, Identities, Wish},
    cri::CriRuntime,
    egress,
    hollow::HollowRuntime,
    kubelet::{CtrImporter, ImageImporter, Kubelet, Parts, Settings, SystemClock, rotate_logs},
    machine::{self, Machine},
    node_object::{self, NodeFacts, parse_taint},
    objects::{ApiObjects, NoObjects, ObjectSource},
    runtime::Runtime,
    server,
    volumes::{HollowVolumes, HostVolumes, Volumes},
};

/// How often the directory of image archives is looked at.
const IMAGE_SCAN_PERIOD: Duration = Duration::from_secs(10);

/// Port of cluster DNS and its upstreams.
const DNS_PORT: u16 = 53;
/// Interface that carries the address of cluster DNS on every node.
const DNS_INTERFACE: &str = "xebec-dns";

/// Who the node is to the API server.
pub(crate) struct Identity {
    pub(crate) connection: Connection,
    pub(crate) identities: Identities,
    /// Whether the client certificate is the node's own to renew.
    pub(crate) own_certificate: bool,
}

/// Takes the CA out of a kubeconfig: the kubelet's clients are checked against it.
pub(crate) fn save_kubeconfig_ca(path: &Path, identities: &Identities) -> Result<(), Error> {
    let wrong = |reason: String| Error::flag("kubeconfig", reason);
    let config = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
    let cluster = config.clusters.into_iter().find_map(|named| named.cluster);
    let cluster = cluster.ok_or_else(|| wrong("names no cluster".into()))?;
    let pem = match (cluster.certificate_authority_data, cluster.certificate_authority) {
        (Some(data), _) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data)
            .map_err(|error| wrong(error.to_string()))?,
        (None, Some(file)) => std::fs::read(&file).map_err(|error| Error::io(file, error))?,
        (None, None) => return Err(wrong("holds no certificate authority".into())),
    };
    let target = identities.ca();
    crate::kubelet::write_atomically(&target, &pem).map_err(|error| Error::io(target.display().to_string(), error))
}

/// Runs one node until `stop`.
pub(crate) async fn run(flags: Flags, name: String, identity: Identity, stop: CancellationToken) -> Result<(), Error> {
    let hollow = flags.hollow.is_some();
    let client = identity.connection.client()?;
    // Heartbeats wait for nobody else's traffic.
    let heartbeat_client = identity.connection.separate().client()?;
    let machine = Machine::measure(&flags).map_err(|reason| Error::flag("capacity", reason))?;
    let settings = settings(&flags, &name, &machine)?;
    let listener = server::listen(&flags).await?;
    let port = listener.local_addr().map_err(|error| Error::io("kubelet port", error))?.port();
    let facts = node_facts(&flags, &name, &settings, machine, port)?;

    // Real nodes need routes to all others; a hollow one only its own podCIDR.
    let nodes = Cache::builder(Api::<Node>::all(client.clone()));
    let nodes = if hollow { nodes.fields(&format!("metadata.name={name}")) } else { nodes }.start(stop.clone());
    let (runtime, volumes, importer) = if hollow {
        let runtime = Arc::new(HollowRuntime::default());
        let told = runtime.clone();
        nodes.on_change(move |change| {
            let cidrs = change.new.as_deref().map(pod_cidrs).unwrap_or_default();
            cidrs.into_iter().take(1).for_each(|cidr| told.set_pod_cidr(cidr));
        });
        (runtime as Arc<dyn Runtime>, Arc::new(HollowVolumes) as Arc<dyn Volumes>, None)
    } else {
        prepare_host(&flags, &settings, &nodes)?;
        real_parts(&flags, &name, &settings)?
    };
    let objects: Arc<dyn ObjectSource> =
        if hollow { Arc::new(NoObjects) } else { Arc::new(ApiObjects::new(client.clone())) };
    let services = (!hollow).then(|| Cache::<Service>::start(client.clone(), stop.clone()));
    let kubelet = Kubelet::new(
        Parts {
            settings,
            runtime: runtime.clone(),
            volumes,
            objects,
            importer: importer.clone(),
            services: services.clone(),
            client: Some(client.clone()),
            recorder: Some(Recorder::start(client.clone(), "kubelet", &name, stop.clone())),
            clock: Arc::new(SystemClock),
        },
        stop.clone(),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(node_object::run(facts, heartbeat_client, runtime, stop.clone()));
    let addresses = Wish::serving(&name, node_ip(&flags)?);
    tasks.spawn(certificates(identity, client.clone(), Wish::client(&name), addresses.clone(), stop.clone()));
    tasks.spawn(server::run(
        listener,
        kubelet.clone(),
        server_identity(&flags, &name, &addresses)?,
        client.clone(),
        stop.clone(),
    ));
    if let Some(importer) = importer {
        tasks.spawn(import_images(importer, stop.clone()));
    }
    if !hollow {
        tasks.spawn(rotate_logs(
            kubelet.clone(),
            flags.container_log_max_bytes,
            flags.container_log_max_files as usize,
        ));
    }
    if let Some(services) = services.clone() {
        network_services(&flags, &name, client.clone(), nodes, services, &mut tasks, &stop);
    }
    tasks.spawn(follow_pods(kubelet, client, name, services, stop.clone()));
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::Defect(error.to_string()))?;
    }
    Ok(())
}

/// The service proxy, cluster DNS and the routes to other nodes' pods.
fn network_services(
    flags: &Flags,
    name: &str,
    client: kube::Client,
    nodes: Cache<Node>,
    services: Cache<Service>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let slices = Cache::<EndpointSlice>::start(client, stop.clone());
    let v4 = |ip: &IpAddr| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None };
    let dns_address = flags.cluster_dns.iter().find_map(v4).filter(|_| !flags.disable_dns);
    if !flags.disable_proxy {
        let cluster_cidr = if let IpNet::V4(cidr) = flags.cluster_cidr { Some(cidr) } else { None };
        let options = xebec_node_core::proxy::Options {
            node_name: name.to_owned(),
            cluster_cidr,
            served_here: dns_address.into_iter().collect(),
        };
        tasks.spawn(crate::proxy::run(options, services.clone(), slices.clone(), stop.clone()));
    }
    if let Some(address) = dns_address {
        let options = crate::dns::Options {
            address,
            port: DNS_PORT,
            interface: Some(DNS_INTERFACE.to_owned()),
            domain: flags.cluster_domain.clone(),
            upstreams: upstreams(),
        };
        let stop = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = crate::dns::run(options, services, slices, stop).await {
                tracing::error!(%error, "cluster DNS does not answer on this node");
            }
        });
    }
    let (name, stop) = (name.to_owned(), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = crate::routes::run(name, nodes, stop).await {
            tracing::error!(%error, "routes to other nodes' pods are not kept");
        }
    });
}

fn upstreams() -> Vec<SocketAddr> {
    let servers = machine::host_resolv().servers;
    servers.iter().filter_map(|server| Some(SocketAddr::new(server.parse().ok()?, DNS_PORT))).collect()
}

fn server_identity(flags: &Flags, name: &str, wish: &Wish) -> Result<server::ServerIdentity, Error> {
    let identities = Identities::new(&flags.data_dir)?;
    Ok(server::ServerIdentity { identities, stem: wish.stem, common_name: wish.common_name(), node: name.to_owned() })
}

/// Starts with pods once the API server has told all of them, so that none counts as gone by mistake.
async fn follow_pods(
    kubelet: Arc<Kubelet>,
    client: kube::Client,
    name: String,
    services: Option<Cache<Service>>,
    stop: CancellationToken,
) {
    let pods = Cache::builder(Api::<Pod>::all(client)).fields(&format!("spec.nodeName={name}")).start(stop.clone());
    let ready = async {
        pods.synced().await;
        if let Some(services) = &services {
            services.synced().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => return,
        () = ready => {}
    }
    kubelet.follow(&pods);
    let known = move |uid: &str| pods.is_synced().then(|| pods.list().iter().any(|found| pod::uid(found) == uid));
    kubelet.watch_runtime(known).await;
}

async fn certificates(identity: Identity, client: kube::Client, own: Wish, serving: Wish, stop: CancellationToken) {
    let identities = identity.identities;
    let serve = bootstrap::keep_fresh(identities.clone(), client.clone(), serving, stop.clone());
    if identity.own_certificate {
        tokio::join!(serve, bootstrap::keep_fresh(identities, client, own, stop));
    } else {
        serve.await;
    }
}

async fn import_images(importer: Arc<dyn ImageImporter>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = importer.import_new().await {
            tracing::warn!(%error, "image archives not imported");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(IMAGE_SCAN_PERIOD) => {}
        }
    }
}

fn node_ip(flags: &Flags) -> Result<std::net::IpAddr, Error> {
    match (flags.node_ip, flags.hollow) {
        (Some(ip), _) => Ok(ip),
        (None, Some(_)) => Ok(std::net::Ipv4Addr::LOCALHOST.into()),
        (None, None) => Err(Error::flag("node-ip", "give the address under which others reach this node")),
    }
}

fn settings(flags: &Flags, name: &str, machine: &Machine) -> Result<Settings, Error> {
    Ok(Settings {
        node_name: name.to_owned(),
        node_ip: node_ip(flags)?,
        data_dir: flags.data_dir.clone(),
        cgroup_root: flags.cgroup_root.clone().unwrap_or_else(|| format!("/xebec/{name}")),
        cluster_dns: flags.cluster_dns.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        host_resolv: machine::host_resolv(),
        cpu_milli: machine.allocatable.get("cpu").map_or(0, resources::milli_value),
        memory_bytes: machine::memory_bytes(),
    })
}

fn node_facts(flags: &Flags, name: &str, settings: &Settings, machine: Machine, port: u16) -> Result<NodeFacts, Error> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    let taints = flags.register_with_taints.iter().map(|text| parse_taint(text)).collect::<Result<Vec<_>, _>>();
    Ok(NodeFacts {
        name: name.to_owned(),
        ip: settings.node_ip,
        labels: flags.node_labels.iter().map(pair).collect(),
        taints: taints.map_err(|reason| Error::flag("register-with-taints", reason))?,
        machine,
        port,
        data_dir: flags.data_dir.clone(),
        lease_seconds: flags.node_lease_duration_seconds,
        eviction: flags.eviction_hard,
    })
}

type RealParts = (Arc<dyn Runtime>, Arc<dyn Volumes>, Option<Arc<dyn ImageImporter>>);

fn real_parts(flags: &Flags, name: &str, settings: &Settings) -> Result<RealParts, Error> {
    let endpoint = &flags.container_runtime_endpoint;
    let runtime = CriRuntime::connect(endpoint).map_err(|reason| Error::flag("container-runtime-endpoint", reason))?;
    let pods_dir = settings.data_dir.join("pods");
    let memory_dir = flags.memory_dir.clone().or_else(|| machine::memory_dir(name)).unwrap_or_else(|| {
        tracing::warn!("neither /run nor /dev/shm is in memory: secrets are kept on disk");
        settings.data_dir.join("memory")
    });
    for dir in [&pods_dir, &memory_dir, &settings.logs_dir()] {
        std::fs::create_dir_all(dir).map_err(|error| Error::io(dir.display().to_string(), error))?;
    }
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&memory_dir, owner_only)
        .map_err(|error| Error::io(memory_dir.display().to_string(), error))?;
    let volumes =
        HostVolumes { pods_dir, memory_dir, cgroups: Some(("/sys/fs/cgroup".into(), settings.cgroup_root.clone())) };
    let importer =
        flags.image_dir.as_ref().map(|dir| Arc::new(CtrImporter::new(dir, endpoint)) as Arc<dyn ImageImporter>);
    Ok((Arc::new(runtime), Arc::new(volumes), importer))
}

/// Makes the host a router for its pods, and writes the network plugins' configuration when the podCIDR is known.
fn prepare_host(flags: &Flags, settings: &Settings, nodes: &Cache<Node>) -> Result<(), Error> {
    let dir = flags.cni_conf_dir.clone();
    std::fs::create_dir_all(&dir).map_err(|error| Error::io(dir.display().to_string(), error))?;
    for key in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        if let Err(error) = std::fs::write(key, "1") {
            tracing::warn!(key, %error, "forwarding not enabled");
        }
    }
    let leases = settings.data_dir.join("cni-leases").display().to_string();
    let (mtu, name, cluster) = (flags.network_plugin_mtu, settings.node_name.clone(), flags.cluster_cidr);
    let applied = AtomicBool::new(false);
    nodes.on_change(move |change| {
        let Some(node) = change.new.as_deref().filter(|_| change.key == ObjectKey::cluster(&name)) else { return };
        let cidrs = pod_cidrs(node);
        if cidrs.is_empty() {
            return;
        }
        if !applied.swap(true, Ordering::Relaxed) {
            tokio::spawn(egress::apply(xebec_node_core::egress::ruleset(&cidrs, cluster)));
        }
        let (path, text) = (dir.join(cni::FILE_NAME), cni::conflist(&cidrs, mtu, &leases));
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return;
        }
        match crate::kubelet::write_atomically(&path, text.as_bytes()) {
            Ok(()) => tracing::info!(path = %path.display(), "pod network configured"),
            Err(error) => tracing::error!(path = %path.display(), %error, "pod network not configured"),
        }
    });
    Ok(())
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.clone().unwrap_or_default();
    let listed = spec.pod_cidrs.unwrap_or_default();
    let all = if listed.is_empty() { spec.pod_cidr.into_iter().collect() } else { listed };
    all.iter().filter_map(|cidr| cidr.parse().ok()).collect()
}
