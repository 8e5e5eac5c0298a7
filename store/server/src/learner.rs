//! What a learner does not serve (etcd `server/etcdserver/api/v3rpc/interceptor.go`, `isRPCSupportedForLearner`).

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use xebec_store_raft::Member;

use crate::status;

/// What a learner serves; of Range the serializable ones, which the service itself tells.
const SERVED: [&str; 3] =
    ["/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"];

/// Refuses calls that only a voter serves.
pub(crate) async fn refuse(State(member): State<Member>, request: Request, next: Next) -> Response {
    if member.is_learner() && !SERVED.contains(&request.uri().path()) {
        return status::not_for_learners().into_http::<Body>();
    }
    next.run(request).await
}
