//! xebec-chaos
