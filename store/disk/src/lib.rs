//! xebec-store-disk
