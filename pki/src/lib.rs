//! xebec-pki
