//! xebec-store-core
