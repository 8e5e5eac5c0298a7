//! xebec-store
