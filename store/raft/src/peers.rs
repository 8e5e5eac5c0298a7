//! Channels to the other members.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use openraft::{errors::Unreachable, metrics::RaftMetrics};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};
use tonic::{
    Request, Status,
    body::Body,
    codegen::Service,
    metadata::{MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};
use xebec_proto::xebec::peer::v1::{leader_client::LeaderClient, raft_client::RaftClient};

use crate::{
    departure::{Departure, REMOVED},
    identity::Identity,
    papers::Papers,
    roster::Roster,
    traffic::Traffic,
    types::{MemberId, MemberNode, TypeConfig},
};

/// Metadata key: the cluster the caller belongs to.
pub(crate) const CLUSTER_KEY: &str = "x-xebec-cluster";
/// Metadata key: the member the caller means.
pub(crate) const TO_KEY: &str = "x-xebec-to";
/// Metadata key: the member that calls.
pub(crate) const FROM_KEY: &str = "x-xebec-from";
/// Metadata key of a refusal: the caller, since it was removed from the cluster.
const REMOVED_KEY: &str = "x-xebec-removed";
/// Bytes of one message between members; far above any batch.
pub(crate) const PEER_MESSAGE_BYTES_MAX: usize = 512 << 20;

/// What carries calls to a member: a channel, or a simulated network.
pub type PeerTransport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, TransportError>;

/// A call that could not be carried; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(#[source] pub BoxError);

/// Opens the way to a member with these peer URLs, without connecting yet. The server provides it, since it knows about
/// TLS.
pub type Dialer = Arc<dyn Fn(&[String]) -> Result<PeerTransport, String> + Send + Sync>;

/// A channel as a transport.
#[must_use]
pub fn transport(channel: Channel) -> PeerTransport {
    BoxCloneSyncService::new(channel.map_err(|error| TransportError(error.into())))
}

/// What a connection is for. Each purpose has its own, so that none waits behind another's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Replication,
    Heartbeat,
    Snapshot,
    Forward,
}

/// Marks every request with the cluster, the member it is meant for and the one it comes from.
#[derive(Debug, Clone)]
pub(crate) struct PeerHeaders {
    cluster: u64,
    to: MemberId,
    from: MemberId,
}

impl Interceptor for PeerHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, id) in [(CLUSTER_KEY, self.cluster), (TO_KEY, self.to), (FROM_KEY, self.from)] {
            let value = MetadataValue::try_from(format!("{id:x}")).map_err(|e| Status::internal(e.to_string()))?;
            request.metadata_mut().insert(key, value);
        }
        Ok(request)
    }
}

type Marked = InterceptedService<PeerTransport, PeerHeaders>;

/// A channel to a member, which hears if that member says that this one was removed.
#[derive(Debug, Clone)]
pub(crate) struct PeerChannel {
    inner: Marked,
    from: MemberId,
    departure: Arc<Departure>,
}

impl Service<http::Request<Body>> for PeerChannel {
    type Response = <Marked as Service<http::Request<Body>>>::Response;
    type Error = <Marked as Service<http::Request<Body>>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (from, departure) = (self.from, self.departure.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            let named = response.headers().get(REMOVED_KEY).and_then(|value| value.to_str().ok());
            if named.and_then(|hex| MemberId::from_str_radix(hex, 16).ok()) == Some(from) {
                departure.note(REMOVED);
            }
            Ok(response)
        })
    }
}

/// The channels this member holds.
pub(crate) struct Peers {
    cluster: u64,
    own: MemberId,
    dial: Dialer,
    /// Where members are reached now, which openraft's tasks may have learned long ago.
    rosters: watch::Receiver<Arc<Roster>>,
    departure: Arc<Departure>,
    /// Connections live on Raft's runtime, whoever uses them first.
    runtime: Handle,
    channels: Mutex<HashMap<(MemberId, Purpose), (MemberNode, PeerTransport)>>,
    traffic: Traffic,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Peers {
    pub fn new(
        identity: Identity,
        dial: Dialer,
        runtime: Handle,
        rosters: watch::Receiver<Arc<Roster>>,
        departure: Arc<Departure>,
    ) -> Self {
        let Identity { member: own, cluster } = identity;
        let (channels, traffic) = (Mutex::new(HashMap::new()), Traffic::default());
        Self { cluster, own, dial, rosters, departure, runtime, channels, traffic }
    }

    pub fn dialer(&self) -> &Dialer {
        &self.dial
    }

    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A channel to a member: to where the last committed membership has it, or else to `node`.
    fn channel(&self, to: MemberId, node: &MemberNode, purpose: Purpose) -> Result<PeerChannel, String> {
        let roster = self.rosters.borrow().clone();
        let node = roster.node(to).unwrap_or(node);
        let mut channels = self.channels.lock();
        let channel = match channels.get(&(to, purpose)) {
            Some((known, channel)) if known.peer_urls == node.peer_urls => channel.clone(),
            _ => {
                let _entered = self.runtime.enter();
                let channel = (self.dial)(&node.peer_urls)?;
                channels.insert((to, purpose), (node.clone(), channel.clone()));
                channel
            }
        };
        let headers = PeerHeaders { cluster: self.cluster, to, from: self.own };
        let inner = InterceptedService::new(channel, headers);
        Ok(PeerChannel { inner, from: self.own, departure: self.departure.clone() })
    }

    /// A client for Raft's own calls.
    pub fn raft(
        &self,
        to: MemberId,
        node: &MemberNode,
        purpose: Purpose,
    ) -> Result<RaftClient<PeerChannel>, Unreachable<TypeConfig>> {
        let channel = self.channel(to, node, purpose).map_err(Unreachable::from_string)?;
        Ok(RaftClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX))
    }

    /// A client for what only the leader does. `None` if the membership does not know that member.
    pub fn leader(&self, to: MemberId, metrics: &RaftMetrics<TypeConfig>) -> Option<LeaderClient<PeerChannel>> {
        let node = metrics.membership_config.membership().get_node(&to)?;
        match self.channel(to, node, Purpose::Forward) {
            Ok(channel) => Some(LeaderClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)),
            Err(reason) => {
                tracing::warn!(member = format!("{to:x}"), reason, "cannot dial the leader");
                None
            }
        }
    }
}

/// Refuses requests of other clusters, for other members, of removed ones, and while this member does not take part.
#[derive(Debug, Clone)]
pub(crate) struct CheckHeaders {
    pub cluster: u64,
    pub member: MemberId,
    pub papers: Arc<Papers>,
    pub rosters: watch::Receiver<Arc<Roster>>,
}

pub(crate) fn id_in(metadata: &MetadataMap, key: &str) -> Option<u64> {
    u64::from_str_radix(metadata.get(key)?.to_str().ok()?, 16).ok()
}

impl Interceptor for CheckHeaders {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        for (key, own) in [(CLUSTER_KEY, self.cluster), (TO_KEY, self.member)] {
            if id_in(request.metadata(), key) != Some(own) {
                return Err(Status::failed_precondition(format!("{key} is not {own:x}")));
            }
        }
        let from = id_in(request.metadata(), FROM_KEY).unwrap_or(0);
        if self.rosters.borrow().is_removed(from) {
            let mut status = Status::failed_precondition(REMOVED);
            if let Ok(value) = MetadataValue::try_from(format!("{from:x}")) {
                status.metadata_mut().insert(REMOVED_KEY, value);
            }
            return Err(status);
        }
        if !self.papers.takes_part() {
            return Err(Status::failed_precondition("this member does not take part yet"));
        }
        Ok(request)
    }
}
