//! xebec-apiserver-core
