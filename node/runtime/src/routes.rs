//! Keeps a route per other node, so that pods reach each other across nodes.
//!
//! The routes carry a protocol number of their own, by which a restarted agent recognizes its earlier ones, and removes
//! only those.

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use xebec_client::cache::Cache;
use xebec_node_core::routes::{Routes, Step, steps, wanted};

/// The protocol number of our routes (`ip route list proto 88`); numbers from 64 on are free for anyone.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(88);
/// Pause after a failed change.
const RETRY: Duration = Duration::from_secs(2);

/// Why the routing table cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Netlink is not available.
    #[error("netlink: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused.
    #[error("netlink: {0}")]
    Refused(#[from] rtnetlink::Error),
}

/// Keeps the routes until `stop`; they stay when it ends.
pub async fn run(node_name: String, nodes: Cache<Node>, stop: CancellationToken) -> Result<(), Error> {
    let (handle, _connection) = connect()?;
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |change| {
        let places = |node: &Option<Arc<Node>>| node.as_ref().map(|node| wanted("", [node.as_ref()]));
        // Heartbeats change nodes all the time, but neither their ranges nor their addresses.
        if places(&change.old) != places(&change.new) {
            wake.notify_one();
        }
    });
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = nodes.synced() => {}
    }
    loop {
        let all = nodes.list();
        let failed = match reconcile(&handle, &wanted(&node_name, all.iter().map(AsRef::as_ref))).await {
            Ok(failed) => failed,
            Err(error) => {
                tracing::warn!(%error, "routes not read");
                true
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = changed.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// A netlink handle, and the task that serves it as long as it is kept.
pub(crate) fn connect() -> Result<(Handle, AbortOnDropHandle<()>), Error> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    Ok((handle, AbortOnDropHandle::new(tokio::spawn(connection))))
}

/// Brings the routing table to `wanted`; says whether a step failed. One node's trouble does not hold up the others.
async fn reconcile(handle: &Handle, wanted: &Routes) -> Result<bool, Error> {
    let mut failed = false;
    for step in steps(&present(handle).await?, wanted) {
        match act(handle, step).await {
            Ok(()) => tracing::info!(?step, "route changed"),
            Err(error) => {
                failed = true;
                tracing::warn!(?step, %error, "route not changed");
            }
        }
    }
    Ok(failed)
}

async fn act(handle: &Handle, step: Step) -> Result<(), Error> {
    match step {
        Step::Set(range, gateway) => {
            handle.route().add(route(range, gateway)).replace().execute().await?;
        }
        Step::Remove(range, gateway) => handle.route().del(route(range, gateway)).execute().await?,
    }
    Ok(())
}

fn route(range: Ipv4Net, gateway: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix_len())
        .gateway(gateway)
        .protocol(PROTOCOL)
        .build()
}

/// Our routes as the kernel has them.
async fn present(handle: &Handle) -> Result<Routes, Error> {
    let mut routes = Routes::new();
    let mut listing = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Some(message) = listing.try_next().await? {
        if message.header.protocol != PROTOCOL {
            continue;
        }
        let (mut destination, mut gateway) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some(*address),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                _ => {}
            }
        }
        let range = destination.and_then(|d| Ipv4Net::new(d, message.header.destination_prefix_length).ok());
        if let (Some(range), Some(gateway)) = (range, gateway) {
            routes.insert(range, gateway);
        }
    }
    Ok(routes)
}
