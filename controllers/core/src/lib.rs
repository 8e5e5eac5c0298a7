//! xebec-controllers-core
