//! A pod's worker: observe, plan, report, act, wait; until the pod is finished.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use xebec_node_core::{
    actual::Actual,
    plan::{self, Action, Cause, Desired, Intent, Knowledge},
    pod,
    status::{self, Inputs},
};

use super::{Kubelet, PodUpdate, probes::Probes, report::Reporter};
use crate::{
    runtime::RuntimeError,
    volumes::{Mounts, VolumeError},
};

/// First and longest pause after a step failed (upstream's sandbox and sync back-off in short).
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often volumes made of API objects are brought up to date, and a quiet pod is looked at again.
const REFRESH_PERIOD: Duration = Duration::from_secs(60);

/// A worker, seen from outside.
pub(super) struct Handle {
    updates: watch::Sender<PodUpdate>,
    wake: Arc<Notify>,
    status: Arc<ArcSwapOption<PodStatus>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Handle {
    pub(super) fn send(&self, update: PodUpdate) {
        self.updates.send_replace(update);
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The pod, with the status this kubelet last computed.
    pub(super) fn pod(&self) -> Arc<Pod> {
        let pod = self.updates.borrow().pod.clone();
        match self.status.load_full() {
            Some(status) => Arc::new(Pod { status: Some((*status).clone()), ..(*pod).clone() }),
            None => pod,
        }
    }
}

/// Why a step of a worker failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

pub(super) struct Worker {
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) uid: String,
    pub(super) updates: watch::Receiver<PodUpdate>,
    pub(super) wake: Arc<Notify>,
    pub(super) knowledge: Arc<Mutex<Knowledge>>,
    pub(super) mounts: Option<Mounts>,
    reporter: Reporter,
    probes: Probes,
    last_status: Option<PodStatus>,
    published: Arc<ArcSwapOption<PodStatus>>,
    refreshed_at: Instant,
    failures: u32,
    finished: bool,
    /// Back-offs already told in an event: container and restart count.
    told: BTreeSet<(String, i32)>,
}

enum Next {
    Again,
    Wait(Option<Timestamp>),
    Done,
}

pub(super) fn spawn(kubelet: Arc<Kubelet>, uid: String, update: PodUpdate, stop: CancellationToken) -> Handle {
    let wake = Arc::new(Notify::new());
    let knowledge = Arc::new(Mutex::new(Knowledge::default()));
    let reporter = Reporter::spawn(kubelet.parts.client.clone(), &update.pod, stop.clone());
    let (sender, updates) = watch::channel(update);
    let published = Arc::new(ArcSwapOption::empty());
    let worker = Worker {
        probes: Probes::new(kubelet.clone(), knowledge.clone(), wake.clone()),
        kubelet,
        uid,
        updates,
        wake: wake.clone(),
        knowledge,
        mounts: None,
        reporter,
        last_status: None,
        published: published.clone(),
        refreshed_at: Instant::now(),
        failures: 0,
        finished: false,
        told: BTreeSet::new(),
    };
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = worker.run() => {}
        }
    });
    Handle { updates: sender, wake, status: published, _stop: stop.drop_guard() }
}

impl Worker {
    async fn run(mut self) {
        loop {
            let next = match self.step().await {
                Ok(next) => {
                    self.failures = 0;
                    next
                }
                Err(error) => {
                    self.complain(&error);
                    Next::Wait(Some(self.retry_at()))
                }
            };
            match next {
                Next::Again => {}
                Next::Wait(until) => self.wait(until).await,
                Next::Done => break,
            }
        }
        self.kubelet.forget(&self.uid);
    }

    fn complain(&self, error: &StepError) {
        let pod = self.updates.borrow().pod.clone();
        let (name, namespace) = (pod::name(&pod), pod::namespace(&pod));
        tracing::warn!(pod = name, namespace, %error, "pod not in sync, will try again");
        let reason = match error {
            StepError::Runtime(_) => "FailedCreatePodSandBox",
            StepError::Volume(_) => "FailedMount",
        };
        self.kubelet.event(&pod, None, true, reason, error.to_string());
    }

    fn retry_at(&mut self) -> Timestamp {
        let pause = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures += 1;
        self.now().checked_add(pause).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.kubelet.parts.clock.now()
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let now = self.now();
        let named = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok()).unwrap_or_default();
        let pause = if until.is_some() { named.min(REFRESH_PERIOD) } else { REFRESH_PERIOD };
        tokio::select! {
            changed = self.updates.changed() => {
                if changed.is_err() {
                    // The kubelet forgot this worker: nothing will ever come again.
                    std::future::pending::<()>().await;
                }
            }
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// The pod with the newest status of our own and the conditions of others.
    fn pod_with_status(&self, update: &PodUpdate) -> Pod {
        let mut pod = (*update.pod).clone();
        if update.gone && pod.metadata.deletion_timestamp.is_none() {
            // Gone without a farewell: ended with the grace its specification gives.
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now()));
        }
        if let Some(own) = &self.last_status {
            let foreign = pod.status.take().unwrap_or_default().conditions.unwrap_or_default();
            let mut merged = own.clone();
            let conditions = merged.conditions.get_or_insert_default();
            conditions.retain(|condition| super::report::is_own(&condition.type_));
            conditions.extend(foreign.into_iter().filter(|condition| !super::report::is_own(&condition.type_)));
            pod.status = Some(merged);
        }
        pod
    }

    async fn step(&mut self) -> Result<Next, StepError> {
        let update = self.updates.borrow_and_update().clone();
        let pod = self.pod_with_status(&update);
        let actual = self.kubelet.observe(&pod).await?;
        let now = self.now();
        let intent = plan::intent(&pod, &actual, now);
        let knowledge = self.knowledge.lock().clone();
        let actions = plan::plan(&Desired { pod: &pod, intent, now }, &actual, &knowledge);
        let whole_seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
        if !(self.finished || is_settled(&pod, &actual)) {
            let inputs = Inputs {
                pod: &pod,
                intent,
                actual: &actual,
                knowledge: &knowledge,
                host: &self.kubelet.host,
                now: whole_seconds,
            };
            let computed = status::pod_status(&inputs);
            if !update.gone {
                self.reporter.send(computed.clone());
            }
            self.tell_back_offs(&pod, &computed);
            self.published.store(Some(Arc::new(computed.clone())));
            self.last_status = Some(computed);
        }
        if matches!(intent, Intent::Run) {
            self.probes.sync(&pod, &actual);
        } else {
            self.probes.clear();
        }
        if actions.contains(&Action::Finish) {
            return self.finish(&update, &pod, intent, &actions).await;
        }
        self.act(&pod, &actual, actions, now).await
    }

    /// Tells once per back-off that a container waits.
    fn tell_back_offs(&mut self, pod: &Pod, status: &PodStatus) {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for container in lists.into_iter().flatten().flatten() {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            if waiting.and_then(|waiting| waiting.reason.as_deref()) != Some("CrashLoopBackOff") {
                continue;
            }
            if self.told.insert((container.name.clone(), container.restart_count)) {
                let message = status::back_off_event(pod, &container.name);
                self.kubelet.event(pod, Some(&container.name), true, "BackOff", message);
            }
        }
    }

    async fn act(
        &mut self,
        pod: &Pod,
        actual: &Actual,
        actions: Vec<Action>,
        now: Timestamp,
    ) -> Result<Next, StepError> {
        let mut wake_at: Option<Timestamp> = None;
        let mut acted = false;
        let (kills, others): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::KillContainer { .. }));
        if !kills.is_empty() {
            self.kill_all(pod, actual, kills).await?;
            acted = true;
        }
        for action in others {
            match action {
                Action::WakeAt(time) => wake_at = Some(wake_at.map_or(time, |earlier| earlier.min(time))),
                action => match self.do_one(pod, actual, action, now).await? {
                    None => acted = true,
                    Some(retry) => wake_at = Some(wake_at.map_or(retry, |earlier| earlier.min(retry))),
                },
            }
        }
        if acted {
            return Ok(Next::Again);
        }
        self.refresh(pod, actual).await?;
        Ok(Next::Wait(wake_at))
    }

    async fn refresh(&mut self, pod: &Pod, actual: &Actual) -> Result<(), StepError> {
        if self.refreshed_at.elapsed() >= REFRESH_PERIOD || (self.mounts.is_none() && actual.alive().next().is_some()) {
            self.refreshed_at = Instant::now();
            self.mount(pod, actual).await?;
        }
        Ok(())
    }

    /// Brings the pod's volumes in place, or up to date.
    pub(super) async fn mount(&mut self, pod: &Pod, actual: &Actual) -> Result<(), StepError> {
        let parts = &self.kubelet.parts;
        let ips = actual.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let objects = parts.objects.objects(pod).await.map_err(VolumeError::Objects)?;
        let tokens = parts.objects.tokens(pod).await.map_err(VolumeError::Objects)?;
        let facts = parts.settings.facts(ips);
        self.mounts = Some(parts.volumes.mount(pod, &objects, &tokens, &facts).await?);
        Ok(())
    }

    async fn finish(
        &mut self,
        update: &PodUpdate,
        pod: &Pod,
        intent: Intent,
        actions: &[Action],
    ) -> Result<Next, StepError> {
        let deleted = matches!(intent, Intent::Terminate { cause: Cause::Deleted, .. });
        if !self.finished {
            self.kubelet.parts.volumes.unmount(pod).await?;
            self.mounts = None;
            self.finished = true;
        }
        if !deleted {
            return Ok(Next::Wait(None));
        }
        for action in actions {
            match action {
                Action::RemoveContainer { id } => self.kubelet.parts.runtime.remove_container(id).await?,
                Action::RemoveSandbox { id } => self.kubelet.parts.runtime.remove_sandbox(id).await?,
                _ => {}
            }
        }
        self.kubelet.remove_traces(pod);
        if !update.gone {
            self.reporter.delete().await;
        }
        Ok(Next::Done)
    }
}

/// Whether the API server has the last word on the pod already: what the runtime forgot since must not change it.
fn is_settled(pod: &Pod, actual: &Actual) -> bool {
    matches!(pod::phase(pod), "Succeeded" | "Failed") && actual.is_stopped()
}
