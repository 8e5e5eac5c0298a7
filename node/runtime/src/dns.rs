//! Cluster DNS, answered by every node itself on the DNS service's address, which a dummy interface holds.

mod forward;
mod message;
mod serve;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use xebec_client::ObjectKey;
use xebec_client::cache::Cache;
use xebec_node_core::dns::Records;

use crate::routes;

/// The label that ties a slice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How to answer.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to answer on, `10.96.0.10` by custom.
    pub address: Ipv4Addr,
    /// The port, 53; 0 takes a free one (tests).
    pub port: u16,
    /// The dummy interface to make and give the address to; `None` if the address is there already.
    pub interface: Option<String>,
    /// The cluster's domain.
    pub domain: String,
    /// Who answers names outside the cluster; without any they are refused.
    pub upstreams: Vec<SocketAddr>,
}

/// Why DNS cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface cannot be made.
    #[error("cannot prepare interface {interface}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// Why.
        #[source]
        source: routes::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A DNS server that listens.
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    options: Options,
    records: Arc<RwLock<Records>>,
}

/// Listens and answers until `stop`.
pub async fn run(
    options: Options,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let server = Server::bind(options).await?;
    server.serve(services, slices, stop).await;
    Ok(())
}

impl Server {
    /// Prepares the interface and listens.
    pub async fn bind(options: Options) -> Result<Self, Error> {
        if let Some(interface) = &options.interface {
            prepare(interface, options.address)
                .await
                .map_err(|source| Error::Interface { interface: interface.clone(), source })?;
        }
        let address = SocketAddr::from((options.address, options.port));
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        // With port 0 both get the same one.
        let address = tcp.local_addr().map_err(|source| Error::Listen { address, source })?;
        let udp = UdpSocket::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let records = Arc::new(RwLock::new(Records::new(&options.domain)));
        Ok(Self { udp, tcp, options, records })
    }

    /// The address it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }

    /// Answers until `stop`. Until the caches are complete, questions about the cluster fail (SERVFAIL), so that clients ask
    /// again instead of believing that a name does not exist.
    pub async fn serve(self, services: Cache<Service>, slices: Cache<EndpointSlice>, stop: CancellationToken) {
        follow(&self.records, &services, &slices);
        let answering = serve::Answering {
            records: self.records,
            forwarder: forward::Forwarder::new(self.options.upstreams),
            ready: Box::new(move || services.is_synced() && slices.is_synced()),
        };
        let answering = Arc::new(answering);
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve::udp(Arc::new(self.udp), answering.clone()) => {}
            () = serve::tcp(self.tcp, answering) => {}
        }
    }
}

/// Keeps the records current: each change of a Service or of one of its slices rebuilds that Service's records.
fn follow(records: &Arc<RwLock<Records>>, services: &Cache<Service>, slices: &Cache<EndpointSlice>) {
    let rebuild = {
        let (records, services, slices) = (records.clone(), services.clone(), slices.clone());
        move |key: &ObjectKey| {
            let mut records = records.write();
            let Some(service) = services.get(key) else { return records.remove(&key.namespace, &key.name) };
            let all = slices.namespace(&key.namespace);
            let own = all.iter().map(AsRef::as_ref).filter(|slice| service_of(slice) == Some(key.name.as_str()));
            records.set(&service, own);
        }
    };
    let of_service = rebuild.clone();
    services.on_change(move |change| of_service(&change.key));
    slices.on_change(move |change| {
        for slice in [&change.old, &change.new].into_iter().flatten() {
            if let Some(name) = service_of(slice) {
                rebuild(&ObjectKey::new(change.key.namespace.clone(), name));
            }
        }
    });
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_LABEL).map(String::as_str)
}

/// The interface that takes the address where the kernel has no dummy interfaces.
const LOOPBACK: &str = "lo";

/// Makes the dummy interface, if it is not there, and gives it the address.
async fn prepare(interface: &str, address: Ipv4Addr) -> Result<(), routes::Error> {
    let (handle, _connection) = routes::connect()?;
    let index = match find(&handle, interface).await {
        Ok(index) => index,
        Err(_) => match handle.link().add(rtnetlink::LinkDummy::new(interface).build()).execute().await {
            Ok(()) => find(&handle, interface).await?,
            Err(error) => {
                tracing::info!(interface, %error, "no dummy interface, the DNS address goes to the loopback");
                find(&handle, LOOPBACK).await?
            }
        },
    };
    let up = rtnetlink::LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await?;
    handle.address().add(index, address.into(), 32).replace().execute().await?;
    Ok(())
}

/// The index of a link; one that does not exist is an error of the query.
async fn find(handle: &rtnetlink::Handle, name: &str) -> Result<u32, routes::Error> {
    use futures::TryStreamExt;
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await?.ok_or(rtnetlink::Error::RequestFailed)?;
    Ok(link.header.index)
}
