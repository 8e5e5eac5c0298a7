//! xebec-store-log
