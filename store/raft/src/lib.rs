//! xebec-store-raft
