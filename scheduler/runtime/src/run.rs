//! The component's entry.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;
use xebec_client::cache::Cache;
use xebec_client::connect::{ConnectError, ConnectOptions, Connection};
use xebec_client::health::{self, Health, HealthError};
use xebec_client::{Campaign, Fence, Recorder, run_while_leading};

use crate::flags::Flags;
use crate::state::State;
use crate::term::{Counters, Term};

/// Why the scheduler cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection settings are unusable.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The health address cannot be listened on.
    #[error(transparent)]
    Health(#[from] HealthError),
}

/// Runs the scheduler until `stop`.
pub async fn run(flags: Flags, stop: CancellationToken) -> Result<(), Error> {
    let connection = Connection::open(ConnectOptions {
        kubeconfig: Some(flags.kubeconfig.clone()),
        component: "scheduler".to_owned(),
        ..ConnectOptions::default()
    })
    .await?;
    let client = connection.client()?;
    let stop = stop.child_token();
    let _ends_watches = stop.clone().drop_guard();
    let pods = Cache::builder(kube::Api::all(client.clone())).transform(strip).start(stop.clone());
    let nodes: Cache<Node> = Cache::start(client.clone(), stop.clone());
    let services: Cache<Service> = Cache::start(client.clone(), stop.clone());
    let namespaces: Cache<Namespace> = Cache::start(client.clone(), stop.clone());
    let state = State::new(flags.scheduler_name.clone());
    state.follow(&pods, &nodes, &services, &namespaces);
    let status = Arc::new(Status {
        synced: AtomicBool::new(false),
        leading: AtomicBool::new(false),
        counters: Arc::default(),
        state: state.clone(),
    });
    health::start(flags.health_address, status.clone(), stop.clone()).await?;
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        _ = futures::future::join4(pods.synced(), nodes.synced(), services.synced(), namespaces.synced()) => {}
    }
    status.synced.store(true, Ordering::Relaxed);

    let host = host_name();
    let work = |fence: Fence, cancel: CancellationToken| {
        let (connection, state, pods) = (connection.clone(), state.clone(), pods.clone());
        let (status, host) = (status.clone(), host.clone());
        async move {
            let client = match connection.fenced(&fence) {
                Ok(client) => client,
                Err(error) => return tracing::error!(%error, "no client for this term"),
            };
            let recorder = Recorder::start(client.clone(), "default-scheduler", &host, cancel.clone());
            let counters = status.counters.clone();
            status.leading.store(true, Ordering::Relaxed);
            Term { state, pods, client, recorder, counters }.run(cancel).await;
            status.leading.store(false, Ordering::Relaxed);
        }
    };
    if flags.leader_elect {
        let identity =
            flags.leader_elect_identity.clone().unwrap_or_else(|| format!("{host}_{}", uuid::Uuid::new_v4()));
        let name = flags.leader_elect_resource_name.clone();
        run_while_leading(Campaign { connection: connection.clone(), name, identity }, stop, work).await;
    } else {
        work(Fence::leading(None), stop).await;
    }
    Ok(())
}

/// What no decision needs.
fn strip(pod: &mut Pod) {
    if let Some(status) = pod.status.as_mut() {
        status.container_statuses = None;
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

struct Status {
    synced: AtomicBool,
    leading: AtomicBool,
    counters: Arc<Counters>,
    state: Arc<State>,
}

impl Health for Status {
    fn unready(&self) -> Option<String> {
        (!self.synced.load(Ordering::Relaxed)).then(|| "caches are not synced yet".to_owned())
    }

    fn metrics(&self) -> String {
        let (pending, nodes) = self.state.sizes();
        let leading = u8::from(self.leading.load(Ordering::Relaxed));
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "# TYPE scheduler_pending_pods gauge\nscheduler_pending_pods {pending}\n\
             # TYPE scheduler_cache_nodes gauge\nscheduler_cache_nodes {nodes}\n\
             # TYPE leader_election_master_status gauge\nleader_election_master_status {leading}\n\
             # TYPE scheduler_schedule_attempts_total counter\n\
             scheduler_schedule_attempts_total{{result=\"scheduled\"}} {}\n\
             scheduler_schedule_attempts_total{{result=\"unschedulable\"}} {}\n\
             scheduler_schedule_attempts_total{{result=\"error\"}} {}\n",
            count(&self.counters.scheduled),
            count(&self.counters.unschedulable),
            count(&self.counters.error),
        )
    }
}
