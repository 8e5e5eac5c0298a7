//! One term of leadership: pods are tried one after the other, bound side by side.

use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::cache::Cache;
use xebec_client::{EventType, ObjectKey, Recorder, failure};
use xebec_scheduler_core::{Decision, Snapshot, Unfit, preempt, schedule};

use crate::bind;
use crate::state::State;

/// Bindings and status writes under way at a time.
const WRITES_MAX: usize = 64;
/// Longest wait without looking at the queue.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Counters for `/metrics`.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) scheduled: AtomicU64,
    pub(crate) unschedulable: AtomicU64,
    pub(crate) error: AtomicU64,
}

/// What a term works with.
#[derive(Clone)]
pub(crate) struct Term {
    pub(crate) state: Arc<State>,
    pub(crate) pods: Cache<Pod>,
    /// A client under this term's fence.
    pub(crate) client: kube::Client,
    pub(crate) recorder: Recorder,
    pub(crate) counters: Arc<Counters>,
}

impl Term {
    /// Schedules until `cancel`. Writes under way are dropped with it.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        self.state.restart(&self.pods);
        let mut writes = JoinSet::new();
        loop {
            while writes.try_join_next().is_some() {}
            if writes.len() >= WRITES_MAX {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = writes.join_next() => continue,
                }
            }
            match self.state.next() {
                Ok((name, snapshot)) => {
                    if let Some(write) = self.attempt(&name, &snapshot) {
                        writes.spawn(write);
                    }
                    // Decisions are computation: others on this thread get their turn between them.
                    tokio::task::yield_now().await;
                }
                Err(due) => tokio::select! {
                    () = cancel.cancelled() => return,
                    () = self.state.wake.notified() => {}
                    () = tokio::time::sleep(due.unwrap_or(WAIT_MAX).min(WAIT_MAX)) => {}
                },
            }
            if cancel.is_cancelled() {
                return;
            }
        }
    }

    /// Decides about one pod; what is left to do is the write.
    fn attempt(&self, name: &str, snapshot: &Snapshot) -> Option<futures::future::BoxFuture<'static, ()>> {
        let (namespace, pod_name) = name.split_once('/')?;
        let key = ObjectKey::new(namespace, pod_name);
        let Some(pod) = self.pods.get(&key) else {
            self.state.drop_key(name);
            return None;
        };
        match schedule(snapshot, &pod) {
            Decision::Bind { node } => {
                self.state.assume(&key, &pod, &node);
                Some(Box::pin(self.clone().bind(key, pod, node)))
            }
            Decision::Unfit(unfit) => {
                self.counters.unschedulable.fetch_add(1, Ordering::Relaxed);
                let plugins = unfit.plugins();
                let sociable = plugins.contains("InterPodAffinity") || plugins.contains("PodTopologySpread");
                let preemption = self.preemption(snapshot, &pod, &unfit);
                self.state.failed(name, false, sociable);
                Some(Box::pin(self.clone().refuse(pod, unfit, preemption)))
            }
        }
    }

    fn preemption(&self, snapshot: &Snapshot, pod: &Pod, unfit: &Unfit) -> Option<xebec_scheduler_core::Preemption> {
        // Victims of an earlier attempt that are still on their way out are waited for first
        // (upstream `PodEligibleToPreemptOthers`).
        let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let leaving = nominated
            .and_then(|node| snapshot.node(node))
            .is_some_and(|node| node.pods().any(|other| other.terminating && other.priority < priority));
        if leaving { None } else { preempt(snapshot, pod, unfit) }
    }

    async fn bind(self, key: ObjectKey, pod: Arc<Pod>, node: String) {
        match bind::bind(&self.client, &key, &pod, &node).await {
            Ok(()) => {
                self.counters.scheduled.fetch_add(1, Ordering::Relaxed);
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.event(pod.as_ref(), EventType::Normal, "Scheduled", message);
                tracing::info!(pod = %key, node, "bound");
            }
            Err(error) => {
                self.counters.error.fetch_add(1, Ordering::Relaxed);
                let gone = failure::is_not_found(&error);
                self.state.forget(&key, &pod, !gone);
                if !gone {
                    tracing::warn!(pod = %key, node, %error, "binding failed");
                    let message = format!("binding rejected: {error}");
                    self.recorder.event(pod.as_ref(), EventType::Warning, "FailedScheduling", message);
                }
            }
        }
    }

    async fn refuse(self, pod: Arc<Pod>, unfit: Unfit, preemption: Option<xebec_scheduler_core::Preemption>) {
        let message = match &preemption {
            Some(_) => unfit.to_string(),
            None => format!("{unfit} {}", unfit.preemption_note()).trim_end().to_owned(),
        };
        self.recorder.event(pod.as_ref(), EventType::Warning, "FailedScheduling", message.clone());
        let nominated = preemption.as_ref().map(|preemption| preemption.node.as_str());
        if let Err(error) = bind::report(&self.client, &pod, "Unschedulable", &message, nominated).await
            && !failure::is_not_found(&error)
        {
            tracing::warn!(pod = %ObjectKey::of(pod.as_ref()), %error, "condition not written");
        }
        let Some(preemption) = preemption else { return };
        for victim in preemption.victims.iter().filter(|victim| !victim.terminating) {
            let key = ObjectKey::new(&victim.namespace, &victim.name);
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            match bind::evict(&self.client, &key, &victim.uid).await {
                Ok(()) => {
                    tracing::info!(pod = %key, by = %ObjectKey::of(pod.as_ref()), node = preemption.node, "preempted");
                    if let Some(object) = self.pods.get(&key) {
                        let message = format!("Preempted by pod {uid} on node {}", preemption.node);
                        self.recorder.event(object.as_ref(), EventType::Normal, "Preempted", message);
                    }
                }
                Err(error) if failure::is_not_found(&error) => {}
                // The preemptor is tried again with the next change, and then preempts again.
                Err(error) => return tracing::warn!(pod = %key, %error, "preemption failed"),
            }
        }
    }
}
