//! What `/metrics` shows, under etcd's names and of etcd's types where it means the same.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use xebec_store_core::ReadView;
use xebec_store_raft::PeerCounts;

use crate::{
    context::{Context, blocking},
    downgrade,
    exposition::{Counter, Exposition, Gauge},
    interceptor::Calls,
    process,
    status::IntoStatus,
    version::{CLUSTER_VERSION, SERVER_VERSION},
};

/// Kind (`livez`, `readyz`) and name of a health check.
pub(crate) type CheckName = (&'static str, &'static str);
/// A check's last result, successes and failures.
pub(crate) type CheckTally = (bool, u64, u64);

/// Counters of a member.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub calls: Calls,
    pub proposals_failed: Counter,
    pub proposals_pending: Gauge,
    pub leader_changes: Counter,
    pub health_success: Counter,
    pub health_failures: Counter,
    /// Results of `/livez` and `/readyz` by kind and check: the last one, successes, failures.
    pub checks: Mutex<BTreeMap<CheckName, CheckTally>>,
    pub ranges: Counter,
    pub read_indexes_failed: Counter,
    /// Bytes of clients' messages, shared with those who count them.
    pub received_bytes: Arc<Counter>,
    pub watch_streams: Gauge,
    pub watchers: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Calls::new(),
            proposals_failed: Counter::default(),
            proposals_pending: Gauge::default(),
            leader_changes: Counter::default(),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            checks: Mutex::default(),
            ranges: Counter::default(),
            read_indexes_failed: Counter::default(),
            received_bytes: Arc::default(),
            watch_streams: Gauge::default(),
            watchers: Gauge::default(),
        }
    }
}

/// Counts changes of leader until the member stops.
pub(crate) async fn follow_leaders(context: Context) {
    let mut leaders = context.member.leaders();
    let mut seen = None;
    loop {
        let now = *leaders.borrow_and_update();
        if now.is_some() && now != seen {
            seen = now;
            context.metrics.leader_changes.inc();
        }
        tokio::select! {
            changed = leaders.changed() => if changed.is_err() { return },
            () = context.member.stopped().cancelled() => return,
        }
    }
}

/// Everything as Prometheus text.
pub(crate) async fn render(context: &Context) -> String {
    let mut exposition = Exposition::default();
    server(context, &mut exposition);
    disks_and_peers(context, &mut exposition);
    mvcc(context, &mut exposition).await;
    checks(context, &mut exposition);
    context.metrics.calls.expose(&mut exposition, context.limits.extensive_metrics);
    process::expose(&mut exposition);
    exposition.into_text()
}

fn server(context: &Context, out: &mut Exposition) {
    let (status, metrics) = (context.member.status(), &context.metrics);
    let flag = u8::from;
    let has_leader = context.member.leaders().borrow().is_some();
    let cluster = downgrade::cluster_version(&context.member.keyspace().view());
    let cluster = cluster.unwrap_or_else(|_| CLUSTER_VERSION.to_owned());
    let minor = cluster.rsplit_once('.').map_or(cluster.as_str(), |(minor, _)| minor);
    let named = |out: &mut Exposition, name: &str, label: &str, value: &str| {
        out.family(name, "gauge", "Always 1; the label tells.");
        out.sample(name, &[(label, value)], 1);
    };
    named(out, "etcd_cluster_version", "cluster_version", minor);
    named(out, "etcd_server_version", "server_version", SERVER_VERSION);
    named(out, "etcd_server_id", "server_id", &format!("{:x}", context.member.id()));
    named(out, "xebec_build_info", "version", env!("CARGO_PKG_VERSION"));
    out.gauge("etcd_server_has_leader", "Whether or not a leader exists.", flag(has_leader));
    out.gauge("etcd_server_is_leader", "Whether or not this member is a leader.", flag(context.member.leads()));
    out.gauge("etcd_server_is_learner", "Whether or not this member is a learner.", flag(status.is_learner));
    let changes = metrics.leader_changes.get();
    out.counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", changes);
    let committed = status.committed_index.max(status.applied_index);
    out.gauge("etcd_server_proposals_committed_total", "Index of the last committed log entry.", committed);
    out.gauge("etcd_server_proposals_applied_total", "Index of the last applied log entry.", status.applied_index);
    out.gauge("etcd_server_proposals_pending", "Proposals that wait to be applied.", metrics.proposals_pending.get());
    out.counter("etcd_server_proposals_failed_total", "Proposals that failed.", metrics.proposals_failed.get());
    out.gauge("etcd_server_quota_backend_bytes", "The quota, 0 for none.", context.limits.quota_bytes);
    out.counter("etcd_server_health_success", "Successful health checks.", metrics.health_success.get());
    out.counter("etcd_server_health_failures", "Failed health checks.", metrics.health_failures.get());
    let reserved = context.responses.reserved_bytes();
    out.gauge("xebec_server_response_bytes_in_flight", "Bytes reserved for responses under way.", reserved);
}

fn disks_and_peers(context: &Context, out: &mut Exposition) {
    let member = &context.member;
    let name = "etcd_disk_wal_fsync_duration_seconds";
    out.family(name, "histogram", "The latency distributions of fsync called by WAL.");
    out.duration_counts(name, &[], &member.log_fsyncs());
    out.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", member.log_written_bytes());
    let name = "etcd_disk_backend_commit_duration_seconds";
    out.family(name, "histogram", "The latency distributions of commits to the keyspace, which are not synced.");
    out.duration_counts(name, &[], &member.commits());
    let peers: Vec<_> = member.peer_counts().into_iter().map(|(id, counts)| (format!("{id:x}"), counts)).collect();
    let mut each = |name: &str, kind: &str, help: &str, label: &str, value: fn(&PeerCounts) -> u64| {
        out.family(name, kind, help);
        for (id, counts) in &peers {
            out.sample(name, &[(label, id)], value(counts));
        }
    };
    let sent = "etcd_network_peer_sent_bytes_total";
    each(sent, "counter", "The total number of bytes sent to peers.", "To", PeerCounts::sent_bytes);
    let received = "etcd_network_peer_received_bytes_total";
    each(received, "counter", "The total number of bytes received from peers.", "From", PeerCounts::received_bytes);
    let name = "etcd_network_peer_round_trip_time_seconds";
    out.family(name, "histogram", "Round-trip time between peers, of heartbeats.");
    for (id, counts) in &peers {
        out.duration_counts(name, &[("To", id)], &counts.round_trips().counts());
    }
    let failed: u64 = peers.iter().map(|(_, counts)| counts.heartbeats_failed()).sum();
    out.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that were not answered.", failed);
    let metrics = &context.metrics;
    let failed = metrics.read_indexes_failed.get();
    out.counter("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.", failed);
    let received = metrics.received_bytes.get();
    let name = "etcd_network_client_grpc_received_bytes_total";
    out.counter(name, "The total number of bytes received from grpc clients.", received);
}

async fn mvcc(context: &Context, out: &mut Exposition) {
    let (view, metrics) = (context.member.keyspace().view(), &context.metrics);
    out.gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", view.current_revision());
    out.gauge("etcd_debugging_mvcc_compact_revision", "The last compacted revision.", view.compacted_revision());
    out.gauge("etcd_debugging_auth_revision", "The current revision of auth store.", view.auth().revision());
    out.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.", metrics.watch_streams.get());
    out.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.", metrics.watchers.get());
    let totals = context.member.feed().with_events(|events| events.totals());
    out.counter("etcd_mvcc_put_total", "Total number of puts seen by this member.", totals.puts);
    out.counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", totals.deletes);
    out.counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.", totals.txns);
    out.counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.", metrics.ranges.get());
    let keyspace = context.member.keyspace().clone();
    match blocking(move || keyspace.sizes().map_err(IntoStatus::into_status)).await {
        Ok(sizes) => {
            out.gauge("etcd_debugging_mvcc_keys_total", "Total number of keys, estimated.", sizes.keys);
            out.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the keyspace's files.", sizes.disk_bytes);
            let name = "etcd_mvcc_db_total_size_in_use_in_bytes";
            out.gauge(name, "Bytes of living data, estimated.", sizes.live_bytes);
        }
        Err(status) => tracing::warn!(%status, "the keyspace cannot be measured"),
    }
}

fn checks(context: &Context, out: &mut Exposition) {
    let checks = context.metrics.checks.lock().clone();
    out.family("etcd_server_healthcheck", "gauge", "The result of each kind of healthcheck.");
    for ((kind, name), (passed, _, _)) in &checks {
        out.sample("etcd_server_healthcheck", &[("name", name), ("type", kind)], u8::from(*passed));
    }
    out.family("etcd_server_healthchecks_total", "counter", "The total number of each kind of healthcheck.");
    for ((kind, name), (_, successes, failures)) in &checks {
        for (status, count) in
            [("success", successes), ("error", failures)].into_iter().filter(|(_, count)| **count > 0)
        {
            let labels = [("name", *name), ("status", status), ("type", *kind)];
            out.sample("etcd_server_healthchecks_total", &labels, count);
        }
    }
}
