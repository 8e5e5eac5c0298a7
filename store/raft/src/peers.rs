//! Channels to the other members.

use std::{collections::HashMap, fmt, sync::Arc};

use openraft::{errors::Unreachable, metrics::RaftMetrics};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tonic::{
    Request, Status,
    body::Body,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};
use xebec_proto::xebec::peer::v1::{leader_client::LeaderClient, raft_client::RaftClient};

use crate::types::{MemberId, MemberNode, TypeConfig};

/// Metadata key: the cluster the caller belongs to.
pub(crate) const CLUSTER_KEY: &str = "x-xebec-cluster";
/// Metadata key: the member the caller means.
pub(crate) const TO_KEY: &str = "x-xebec-to";
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

/// Marks every request with the cluster and the member it is meant for.
#[derive(Debug, Clone)]
pub(crate) struct PeerHeaders {
    cluster: u64,
    to: MemberId,
}

impl Interceptor for PeerHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, id) in [(CLUSTER_KEY, self.cluster), (TO_KEY, self.to)] {
            let value = MetadataValue::try_from(format!("{id:x}")).map_err(|e| Status::internal(e.to_string()))?;
            request.metadata_mut().insert(key, value);
        }
        Ok(request)
    }
}

pub(crate) type PeerChannel = InterceptedService<PeerTransport, PeerHeaders>;

/// The channels this member holds.
pub(crate) struct Peers {
    cluster: u64,
    dial: Dialer,
    /// Connections live on Raft's runtime, whoever uses them first.
    runtime: Handle,
    channels: Mutex<HashMap<(MemberId, Purpose), (MemberNode, PeerTransport)>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Peers {
    pub fn new(cluster: u64, dial: Dialer, runtime: Handle) -> Self {
        Self { cluster, dial, runtime, channels: Mutex::new(HashMap::new()) }
    }

    fn channel(&self, to: MemberId, node: &MemberNode, purpose: Purpose) -> Result<PeerChannel, String> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(&(to, purpose)) {
            Some((known, channel)) if known == node => channel.clone(),
            _ => {
                let _entered = self.runtime.enter();
                let channel = (self.dial)(&node.peer_urls)?;
                channels.insert((to, purpose), (node.clone(), channel.clone()));
                channel
            }
        };
        let headers = PeerHeaders { cluster: self.cluster, to };
        Ok(InterceptedService::new(channel, headers))
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

/// Refuses requests of other clusters or for other members.
#[derive(Debug, Clone)]
pub(crate) struct CheckHeaders {
    pub cluster: u64,
    pub member: MemberId,
}

impl Interceptor for CheckHeaders {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        for (key, own) in [(CLUSTER_KEY, self.cluster), (TO_KEY, self.member)] {
            let named = request.metadata().get(key).and_then(|value| value.to_str().ok());
            let named = named.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if named != Some(own) {
                return Err(Status::failed_precondition(format!("{key} is not {own:x}")));
            }
        }
        Ok(request)
    }
}
