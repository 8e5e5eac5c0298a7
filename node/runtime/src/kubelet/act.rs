//! Doing what a plan says, but starting containers, which is in `start`.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use xebec_node_core::{
    actual::Actual,
    plan::{Action, KillReason},
    pod,
};

use super::{
    config, hooks,
    worker::{StepError, Worker},
};

/// Grace left to a container whose preStop hook used all of it (upstream's `minimumGracePeriodInSeconds`).
const GRACE_AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Kills side by side. If the pod's grace is shortened meanwhile, the kills start over with what it is then.
    pub(super) async fn kill_all(&mut self, pod: &Pod, actual: &Actual, kills: Vec<Action>) -> Result<(), StepError> {
        let mut updates = self.updates.clone();
        let grace = pod.metadata.deletion_grace_period_seconds;
        let this = &*self;
        let all = join_all(kills.into_iter().map(|kill| this.kill(pod, actual, kill)));
        let shortened = async {
            loop {
                if updates.changed().await.is_err() {
                    return std::future::pending::<()>().await;
                }
                let update = updates.borrow_and_update().clone();
                let now = update.pod.metadata.deletion_grace_period_seconds;
                let was = grace.unwrap_or(i64::MAX);
                if now.is_some_and(|now| now < was) {
                    return;
                }
            }
        };
        tokio::select! {
            results = all => results.into_iter().collect(),
            () = shortened => Ok(()),
        }
    }

    async fn kill(&self, pod: &Pod, actual: &Actual, action: Action) -> Result<(), StepError> {
        let Action::KillContainer { id, name, grace_seconds, reason } = action else { return Ok(()) };
        let spec = pod::container(pod, &name);
        let message = match &reason {
            KillReason::Probe(kind) => {
                format!("Container {name} failed {} probe, will be restarted", kind.name().to_lowercase())
            }
            KillReason::SpecChanged => format!("Container {name} definition changed, will be restarted"),
            KillReason::PodEnds | KillReason::SandboxGone => format!("Stopping container {name}"),
        };
        self.kubelet.event(pod, Some(&name), false, "Killing", message);
        let grace = Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
        let begun = Instant::now();
        let hook = spec.and_then(|spec| spec.lifecycle.as_ref()).and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let mut left = grace;
        if let Some(hook) = hook.filter(|_| !grace.is_zero() && reason != KillReason::SandboxGone) {
            let ip = actual.sandbox().and_then(|sandbox| sandbox.ips.first().cloned());
            let run = hooks::run(&self.kubelet, hook, spec, &id, ip.as_deref(), grace);
            if let Err(error) = run.await {
                self.kubelet.event(pod, Some(&name), true, "FailedPreStopHook", format!("PreStopHook failed: {error}"));
            }
            left = grace.saturating_sub(begun.elapsed()).max(GRACE_AFTER_HOOK_MIN);
        }
        self.kubelet.parts.runtime.stop_container(&id, left).await?;
        let mut knowledge = self.knowledge.lock();
        knowledge.verdicts.retain(|(container, _), _| *container != id);
        Ok(())
    }

    /// Does one thing; `Some(time)` if it could not be done and is to be tried again then.
    pub(super) async fn do_one(
        &mut self,
        pod: &Pod,
        actual: &Actual,
        action: Action,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StepError> {
        let runtime = self.kubelet.parts.runtime.clone();
        match action {
            Action::CreateSandbox { attempt } => {
                self.mount(pod, actual).await?;
                self.kubelet.import_images().await;
                let settings = &self.kubelet.parts.settings;
                if runtime.is_real() {
                    let logs = settings.pod_logs_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod));
                    if let Err(error) = std::fs::create_dir_all(&logs) {
                        let failed = format!("{}: {error}", logs.display());
                        return Err(crate::runtime::RuntimeError::Failed(failed).into());
                    }
                }
                runtime.run_sandbox(config::sandbox(settings, pod, attempt)).await?;
            }
            Action::StopSandbox { id } => runtime.stop_sandbox(&id).await?,
            Action::RemoveSandbox { id } => runtime.remove_sandbox(&id).await?,
            Action::RemoveContainer { id } => {
                runtime.remove_container(&id).await?;
                self.remove_container_traces(pod, actual, &id);
            }
            Action::StartContainer { name, restart_count, after_failure } => {
                return self.start(pod, actual, &name, restart_count, after_failure, now).await;
            }
            Action::KillContainer { .. } | Action::Finish | Action::WakeAt(_) => {}
        }
        Ok(None)
    }

    fn remove_container_traces(&self, pod: &Pod, actual: &Actual, id: &str) {
        let Some(found) = actual.containers.iter().find(|container| container.id == id) else { return };
        let kubelet = &self.kubelet;
        let paths = super::logs::LogPaths::new(&kubelet.parts.settings, pod, &found.name, found.restart_count);
        let termination = kubelet.termination_file(pod::uid(pod), &found.name, found.restart_count);
        for path in paths.all().into_iter().chain([termination]) {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a dead container's file is still there");
            }
        }
    }
}
