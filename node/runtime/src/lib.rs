//! xebec-node
