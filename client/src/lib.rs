//! xebec-client
