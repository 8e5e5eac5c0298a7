//! xebec-controllers
