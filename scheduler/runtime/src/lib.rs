//! xebec-scheduler
