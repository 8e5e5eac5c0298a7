//! The Lock service (etcd `server/etcdserver/api/v3lock/lock.go`, `client/v3/concurrency/mutex.go`).

use bytes::Bytes;
use tonic::{Request, Response, Status};
use xebec_proto::{
    etcdserverpb::{RangeRequest, TxnRequest},
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock},
};

use super::{
    caller::{self, Caller},
    candidacy::{self, Candidacy},
};
use crate::context::Context;

pub(crate) struct LockService(pub Context);

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let lease = caller.session(request.lease).await?;
        let prefix = candidacy::prefix(&request.name);
        let key = candidacy::key(&prefix, lease);
        let oldest = || caller::get(candidacy::oldest(&prefix));
        let txn = TxnRequest {
            compare: vec![caller::created_at(&key, 0)],
            success: vec![caller::put(&key, &Bytes::new(), lease), oldest()],
            failure: vec![caller::get(RangeRequest { key: key.clone(), ..RangeRequest::default() }), oldest()],
        };
        let entered = caller.txn(txn).await?;
        let mut revision = entered.header.as_ref().map_or(0, |header| header.revision);
        if !entered.succeeded {
            // The session stands in the queue already, or even holds the lock.
            revision = caller::first_read(entered.responses.first()).map_or(revision, |kv| kv.create_revision);
        }
        let owner = caller::first_read(entered.responses.get(1));
        if owner.is_none_or(|owner| owner.create_revision == revision) {
            return Ok(Response::new(LockResponse { header: entered.header, key }));
        }
        wait(Candidacy { caller, prefix, key, revision }).await.map(Response::new)
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let header = caller.delete(request.key).await?;
        Ok(Response::new(UnlockResponse { header }))
    }
}

/// Waits for the lock, and then looks whether the lease has outlived the wait.
async fn wait(candidacy: Candidacy) -> Result<LockResponse, Status> {
    let waiting = candidacy.waiting();
    let held = match waiting.candidacy() {
        Some(candidacy) => match candidacy.turn().await {
            Ok(()) => {
                let own = RangeRequest { key: candidacy.key.clone(), ..RangeRequest::default() };
                candidacy.caller.range(own).await
            }
            Err(status) => Err(status),
        },
        None => Err(Status::internal("etcdserver: internal error")),
    };
    match held {
        Ok(held) => {
            let candidacy = waiting.done();
            let own = candidacy.filter(|own| held.kvs.first().is_some_and(|kv| kv.create_revision == own.revision));
            let own = own.ok_or_else(|| Status::unknown("mutex: session is expired"))?;
            Ok(LockResponse { header: held.header, key: own.key.clone() })
        }
        Err(status) => {
            waiting.failed().await;
            Err(status)
        }
    }
}
