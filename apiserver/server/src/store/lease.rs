//! Leases: presence of a master, leadership of a client.

use super::StoreError;
use super::client::{ATTEMPT_TIMEOUT, Store, refusal};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use xebec_proto::etcdserverpb::lease_client::LeaseClient;
use xebec_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest};

/// A granted lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHold {
    /// Its number.
    pub id: i64,
    /// Its time to live as granted, in seconds.
    pub ttl_seconds: i64,
}

impl Store {
    /// Grants a lease; tried at every endpoint once.
    pub async fn lease_grant(&self, ttl_seconds: i64) -> Result<LeaseHold, StoreError> {
        let mut last = StoreError::Unavailable("no endpoint".into());
        for _ in 0..self.endpoints.len() {
            let (index, channel) = self.channel();
            let request = LeaseGrantRequest { ttl: ttl_seconds, ..Default::default() };
            match within(LeaseClient::new(channel).lease_grant(request)).await {
                Ok(response) => {
                    let granted = response.into_inner();
                    return Ok(LeaseHold { id: granted.id, ttl_seconds: granted.ttl });
                }
                Err(status) => {
                    if let Some(error) = refusal(&status) {
                        return Err(error);
                    }
                    self.turn_from(index);
                    last = StoreError::Unavailable(status.message().to_owned());
                }
            }
        }
        Err(last)
    }

    /// Renews a lease once; `false`: it does not exist any more.
    pub async fn lease_renew(&self, id: i64, timeout: Duration) -> Result<bool, StoreError> {
        let (index, channel) = self.channel();
        let renewal = async {
            let (sender, receiver) = mpsc::channel(1);
            sender
                .send(LeaseKeepAliveRequest { id })
                .await
                .map_err(|_| Status::unavailable("keep-alive stream closed"))?;
            let mut answers =
                LeaseClient::new(channel).lease_keep_alive(ReceiverStream::new(receiver)).await?.into_inner();
            let answer = answers.message().await?;
            drop(sender);
            Ok::<_, Status>(answer.is_some_and(|answer| answer.ttl > 0))
        };
        let status = match tokio::time::timeout(timeout, renewal).await {
            Ok(Ok(alive)) => return Ok(alive),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        self.turn_from(index);
        Err(StoreError::Unavailable(status.message().to_owned()))
    }

    /// Revokes a lease and so deletes its keys; a lease already gone is fine.
    pub async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        let (index, channel) = self.channel();
        match within(LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id })).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            Err(status) => {
                self.turn_from(index);
                Err(StoreError::Ambiguous(status.message().to_owned()))
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(ATTEMPT_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}
