//! The keyspace, replicated: openraft bound to the log, the keyspace and the peers.
//!
//! [`start`] opens a member's data and runs it; [`Member`] is the handle for everything else: proposals
//! ([`Member::propose`], batched), linearizable reads ([`Member::linearizable`], sharing a read index), leases, and the
//! keyspace itself. Any member serves any request: what only the leader can do is forwarded over the peer services
//! ([`PeerService`]). Raft has a runtime of its own, so that no load on the client port delays a heartbeat.
//!
//! One direction: propose, append, commit, apply (pure, `xebec-store-core`), commit to the keyspace, publish to the
//! [`Feed`], answer.

mod admission;
mod blocking;
mod check;
mod departure;
mod error;
mod feed;
mod forced;
pub mod fuzzing;
mod handover;
mod identity;
mod leases;
mod log_store;
mod member;
mod membership;
mod network;
mod papers;
mod peer_service;
mod peers;
mod probe;
mod proposer;
mod quorum;
mod reader;
mod reconfiguration;
mod renewals;
mod reserve;
mod room;
mod roster;
mod seed;
mod snapshot;
mod stall;
mod start;
mod state_machine;
mod surroundings;
mod tidying;
mod traffic;
mod types;
mod wire;

pub use blocking::blocking;
pub use check::{CheckReport, check_data};
pub use error::{RequestFailure, StartError};
pub use feed::Feed;
pub use identity::{Identity, cluster_id, is_initialized, member_id};
pub use leases::LeaseLife;
pub use member::{Member, MemberStatus, REQUEST_TIMEOUT};
pub use membership::MembershipOutcome;
pub use peer_service::PeerService;
pub use peers::{Dialer, PeerTransport, TransportError, transport};
pub use probe::LoggedEntry;
pub use reconfiguration::{MembershipChange, MembershipRefusal, ReconfigurationLimits, are_peer_urls};
pub use reserve::{DiskSpace, Reserve};
pub use room::Room;
pub use roster::{MemberInfo, Roster};
pub use seed::{Seed, SeedError, SeedRevisions};
pub use start::{ELECTION_MILLIS_DEFAULT, HEARTBEAT_MILLIS_DEFAULT, MemberConfig, start, start_here};
pub use surroundings::{Retention, Surroundings};
pub use traffic::PeerCounts;
pub use types::{Batch, MemberId, MemberNode, Outcome, Outcomes, TypeConfig};
