//! The etcd version whose API this is, the same wherever it is told: Status, `/version`, `/metrics`, snapshots.

/// What a client is told. A kube-apiserver decides by it which features to use.
pub(crate) const SERVER_VERSION: &str = "3.7.0";
/// The version all members of the cluster agree on, and that of what they store.
pub(crate) const CLUSTER_VERSION: &str = "3.7.0";
