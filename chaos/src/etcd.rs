//! A small etcd v3 client that tells apart "it did not happen" and "nobody knows".

use std::{error::Error as _, io, path::Path, time::Duration};

use bytes::Bytes;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use xebec_pki::{ClientTls, TlsConnector, client_config};
use xebec_proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
        Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest,
        PutRequest, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
        cluster_client::ClusterClient,
        compare::{CompareResult, CompareTarget, TargetUnion},
        kv_client::KvClient,
        lease_client::LeaseClient,
        maintenance_client::MaintenanceClient,
        request_op::Request,
    },
    mvccpb::KeyValue,
};

/// A connection attempt takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// It certainly did not happen.
    Refused(String),
    /// It may have happened, or may yet.
    Unknown(String),
}

/// One member, as a client sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Etcd {
    channel: Channel,
}

impl Etcd {
    /// Connects when it is first used.
    ///
    /// # Errors
    /// `url` is no URL.
    pub fn new(url: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { channel: endpoint.connect_lazy() })
    }

    /// As [`Etcd::new`], over TLS with the certificates of a master's directory.
    ///
    /// # Errors
    /// `url` is no URL, or a certificate file is missing or malformed.
    pub fn with_tls(url: &str, cert_dir: &Path) -> anyhow::Result<Self> {
        let tls = client_config(&ClientTls {
            ca: cert_dir.join("etcd/ca.crt"),
            cert: Some(cert_dir.join("apiserver-etcd-client.crt")),
            key: Some(cert_dir.join("apiserver-etcd-client.key")),
            alpn: vec![b"h2".to_vec()],
        })?;
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { channel: endpoint.connect_with_connector_lazy(TlsConnector::new(tls)) })
    }

    /// The connection itself.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// One key, linearizably.
    pub async fn get(&self, key: &str) -> Result<(Option<KeyValue>, u64), Failure> {
        let response = self.range(RangeRequest { key: bytes(key), ..RangeRequest::default() }).await?;
        let revision = response.header.map_or(0, |header| header.revision);
        Ok((response.kvs.into_iter().next(), unsigned(revision)))
    }

    /// All keys with a prefix, linearizably, at one revision.
    pub async fn list(&self, prefix: &str) -> Result<Vec<KeyValue>, Failure> {
        let range = RangeRequest { key: bytes(prefix), range_end: prefix_end(prefix), ..RangeRequest::default() };
        Ok(self.range(range).await?.kvs)
    }

    /// Any range.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        Ok(KvClient::new(self.channel()).range(request).await.map_err(failure)?.into_inner())
    }

    /// Writes a key under a lease (0 for none); its revision.
    pub async fn put(&self, key: &str, value: i64, lease: i64) -> Result<u64, Failure> {
        let request = put(key, value.to_string(), lease);
        let response = KvClient::new(self.channel()).put(request).await.map_err(failure)?.into_inner();
        Ok(unsigned(response.header.map_or(0, |header| header.revision)))
    }

    /// Removes a key; the revision after it.
    pub async fn delete(&self, key: &str) -> Result<u64, Failure> {
        let request = DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() };
        let response = KvClient::new(self.channel()).delete_range(request).await.map_err(failure)?.into_inner();
        Ok(unsigned(response.header.map_or(0, |header| header.revision)))
    }

    /// A transaction.
    pub async fn txn(
        &self,
        compare: Vec<Compare>,
        success: Vec<Request>,
        otherwise: Vec<Request>,
    ) -> Result<TxnResponse, Failure> {
        let wrap = |requests: Vec<Request>| {
            requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect::<Vec<_>>()
        };
        let request = TxnRequest { compare, success: wrap(success), failure: wrap(otherwise) };
        Ok(KvClient::new(self.channel()).txn(request).await.map_err(failure)?.into_inner())
    }

    /// Makes a lease; the seconds granted.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<i64, Failure> {
        let request = LeaseGrantRequest { id, ttl };
        Ok(LeaseClient::new(self.channel()).lease_grant(request).await.map_err(failure)?.into_inner().ttl)
    }

    /// Renews a lease once; the seconds it has, 0 if it is gone.
    pub async fn keep_alive(&self, id: i64) -> Result<i64, Failure> {
        let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
        let mut stream =
            LeaseClient::new(self.channel()).lease_keep_alive(requests).await.map_err(failure)?.into_inner();
        match stream.message().await.map_err(failure)? {
            Some(response) => Ok(response.ttl),
            None => Err(Failure::Unknown("the stream ended without an answer".to_owned())),
        }
    }

    /// Ends a lease.
    pub async fn revoke(&self, id: i64) -> Result<(), Failure> {
        LeaseClient::new(self.channel()).lease_revoke(LeaseRevokeRequest { id }).await.map_err(failure)?;
        Ok(())
    }

    /// Compacts history.
    pub async fn compact(&self, revision: u64) -> Result<(), Failure> {
        let request = CompactionRequest { revision: signed(revision), physical: false };
        KvClient::new(self.channel()).compact(request).await.map_err(failure)?;
        Ok(())
    }

    /// The members, linearizably.
    pub async fn members(&self) -> Result<Vec<Member>, Failure> {
        let request = MemberListRequest { linearizable: true };
        Ok(ClusterClient::new(self.channel()).member_list(request).await.map_err(failure)?.into_inner().members)
    }

    /// Announces a member, a voter or a learner; its id.
    pub async fn member_add(&self, peer_url: &str, is_learner: bool) -> Result<u64, Failure> {
        let request = MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner };
        let response = ClusterClient::new(self.channel()).member_add(request).await.map_err(failure)?.into_inner();
        response.member.map(|member| member.id).ok_or_else(|| Failure::Unknown("no member in the answer".to_owned()))
    }

    /// Removes a member.
    pub async fn member_remove(&self, id: u64) -> Result<(), Failure> {
        let request = MemberRemoveRequest { id };
        ClusterClient::new(self.channel()).member_remove(request).await.map_err(failure)?;
        Ok(())
    }

    /// Lets a learner vote.
    pub async fn member_promote(&self, id: u64) -> Result<(), Failure> {
        let request = MemberPromoteRequest { id };
        ClusterClient::new(self.channel()).member_promote(request).await.map_err(failure)?;
        Ok(())
    }

    /// Hands over leadership; to be asked of the leader.
    pub async fn move_leader(&self, target_id: u64) -> Result<(), Failure> {
        let request = MoveLeaderRequest { target_id };
        MaintenanceClient::new(self.channel()).move_leader(request).await.map_err(failure)?;
        Ok(())
    }

    /// What the member says of itself and its leader.
    pub async fn status(&self) -> Result<StatusResponse, Failure> {
        Ok(MaintenanceClient::new(self.channel()).status(StatusRequest {}).await.map_err(failure)?.into_inner())
    }
}

/// A put of text.
pub fn put(key: &str, value: String, lease: i64) -> PutRequest {
    PutRequest { key: bytes(key), value: value.into(), lease, ..PutRequest::default() }
}

/// A put as part of a transaction.
pub fn put_op(key: &str, value: String) -> Request {
    Request::RequestPut(put(key, value, 0))
}

/// A read as part of a transaction.
pub fn get_op(key: &str) -> Request {
    Request::RequestRange(RangeRequest { key: bytes(key), ..RangeRequest::default() })
}

/// "The key was last changed at this revision"; 0 for "it does not exist".
pub fn unchanged_since(key: &str, revision: i64) -> Compare {
    compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// "The key was created at this revision"; 0 for "it does not exist".
pub fn created_at(key: &str, revision: i64) -> Compare {
    compare(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

/// "The key has this value".
pub fn has_value(key: &str, value: i64) -> Compare {
    compare(key, CompareTarget::Value, TargetUnion::Value(value.to_string().into()))
}

fn compare(key: &str, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(union),
        ..Compare::default()
    }
}

/// The first key behind all keys with a prefix, which must not end in the last byte there is.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// A key on the wire.
pub fn bytes(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// A number stored as text.
pub fn number(kv: &KeyValue) -> Option<i64> {
    std::str::from_utf8(&kv.value).ok()?.parse().ok()
}

/// A revision, which is never negative.
pub fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// A revision, which always fits.
pub fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Codes with which etcd refuses a request before it is proposed (etcd `api/v3rpc/rpctypes/error.go`), and a refused
/// connection, are certain; everything else is not.
pub fn failure(status: Status) -> Failure {
    let certain = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::AlreadyExists
    );
    let text = format!("{}: {}", status.code(), status.message());
    if certain || never_connected(&status) { Failure::Refused(text) } else { Failure::Unknown(text) }
}

fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_before_it_was_proposed_is_certain() {
        assert!(matches!(failure(Status::out_of_range("compacted")), Failure::Refused(_)));
        assert!(matches!(failure(Status::unavailable("leader changed")), Failure::Unknown(_)));
        assert!(matches!(failure(Status::deadline_exceeded("late")), Failure::Unknown(_)));
    }

    #[tokio::test]
    async fn a_refused_connection_is_certain() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let etcd = Etcd::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let refused = etcd.put("a", 1, 0).await.expect_err("nobody listens");
        assert!(matches!(refused, Failure::Refused(_)), "{refused:?}");
    }

    #[test]
    fn a_prefix_ends_before_the_next() {
        assert_eq!(prefix_end("a/"), "a0");
    }
}
