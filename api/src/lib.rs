//! xebec-api
