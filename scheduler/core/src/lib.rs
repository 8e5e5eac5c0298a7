//! xebec-scheduler-core
