//! xebec-proto
