//! xebec-node-core
