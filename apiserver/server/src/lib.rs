//! xebec-apiserver
