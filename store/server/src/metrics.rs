//! What `/metrics` shows, under etcd's names where it is the same thing.

use std::fmt::Write;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::registry::Registry;
use xebec_store_core::ReadView;

use crate::context::Context;

/// Counters of a member.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub proposals_failed: Counter,
    pub watch_streams: Gauge,
    pub watchers: Gauge,
}

/// Everything as Prometheus text.
pub(crate) fn render(context: &Context) -> Result<String, std::fmt::Error> {
    let status = context.member.status();
    let view = context.member.keyspace().view();
    let mut registry = Registry::default();
    let metrics = &context.metrics;
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let registered = &mut registry;
    gauge(registered, "etcd_server_has_leader", "Whether a leader exists", status.leader.is_some().into());
    gauge(registered, "etcd_server_is_leader", "Whether this member leads", context.member.leads().into());
    gauge(registered, "etcd_server_is_learner", "Whether this member is a learner", status.is_learner.into());
    gauge(registered, "etcd_server_raft_term", "Current term", status.term as i64);
    gauge(registered, "etcd_server_proposals_committed", "Last log index", status.last_index as i64);
    gauge(registered, "etcd_server_proposals_applied", "Last applied index", status.applied_index as i64);
    gauge(registered, "etcd_debugging_mvcc_current_revision", "Current revision", view.current_revision().0);
    let auth_revision = i64::try_from(view.auth().revision()).unwrap_or(i64::MAX);
    gauge(registered, "etcd_debugging_auth_revision", "Revision of users and roles", auth_revision);
    gauge(registered, "etcd_debugging_mvcc_compact_revision", "Compacted revision", view.compacted_revision().0);
    if let Ok(sizes) = context.member.keyspace().sizes() {
        gauge(registered, "etcd_mvcc_db_total_size_in_bytes", "Bytes on disk", sizes.disk_bytes as i64);
        gauge(registered, "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live data", sizes.live_bytes as i64);
    }
    let failed = metrics.proposals_failed.clone();
    registered.register("etcd_server_proposals_failed", "Proposals that failed", failed);
    registered.register("etcd_debugging_mvcc_watch_stream", "Watch streams", metrics.watch_streams.clone());
    registered.register("etcd_debugging_mvcc_watcher", "Watchers", metrics.watchers.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    if text.is_empty() {
        writeln!(text, "# EOF")?;
    }
    Ok(text)
}
