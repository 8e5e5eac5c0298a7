//! Locks and elections on top of keys and leases, in the layout of etcd's recipes: candidate `name/<lease in hex>`, the
//! oldest one holds (etcd `client/v3/concurrency`, `server/etcdserver/api/v3lock`, `.../v3election`).
//!
//! The services are clients of this member's own KV and Lease services, so that authorization, quota and limits apply to
//! the caller as if it had sent those requests itself. They wait on the member's events, not by asking again.

mod caller;
mod candidacy;
mod election;
mod key_watch;
mod lock;

pub(crate) use election::ElectionService;
pub(crate) use lock::LockService;
