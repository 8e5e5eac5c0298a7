//! Starting one container: image, configuration, creation, start, postStart.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use xebec_node_core::{actual::Actual, env, pod};

use super::{
    config::{self, ContainerInputs},
    hooks,
    images::ImageFailure,
    worker::{StepError, Worker},
};
use crate::runtime::RuntimeError;

/// Pause before a container that could not be configured is tried again.
const CONFIG_RETRY: Duration = Duration::from_secs(2);
/// Bound on a postStart hook.
const POST_START_MAX: Duration = Duration::from_secs(300);

/// Why a container was not started: what `kubectl get` shows as its reason.
#[derive(Debug)]
pub(super) struct NotStarted {
    reason: &'static str,
    message: String,
    event: &'static str,
    retry_at: Option<Timestamp>,
}

impl NotStarted {
    fn config(message: String) -> Self {
        Self { reason: "CreateContainerConfigError", message, event: "Failed", retry_at: None }
    }

    /// What is told of it, as upstream words it (`pkg/kubelet/images/image_manager.go`, `startContainer`): an image's
    /// own story first and then the reason alone, anything else in one event.
    fn events(&self) -> Vec<(bool, &'static str, String)> {
        match self.reason {
            "ErrImagePull" | "ErrImageNeverPull" | "ImageInspectError" | "ImagePullBackOff" => vec![
                (self.event != "BackOff", self.event, self.message.clone()),
                (true, "Failed", format!("Error: {}", self.reason)),
            ],
            _ => vec![(true, self.event, format!("Error: {}", self.message))],
        }
    }
}

impl Worker {
    pub(super) async fn start(
        &mut self,
        pod: &Pod,
        actual: &Actual,
        name: &str,
        restart_count: u32,
        after_failure: bool,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StepError> {
        let Some(spec) = pod::container(pod, name).cloned() else { return Ok(None) };
        if self.mounts.is_none() {
            self.mount(pod, actual).await?;
        }
        match self.try_start(pod, actual, &spec, restart_count, now).await {
            Ok(()) => {
                let mut knowledge = self.knowledge.lock();
                knowledge.waiting.remove(name);
                if after_failure {
                    knowledge.backoff.next(name, now);
                }
                Ok(None)
            }
            Err(failure) => {
                let known = (failure.reason.to_owned(), failure.message.clone());
                let news = self.knowledge.lock().waiting.insert(name.to_owned(), known.clone()) != Some(known);
                if news {
                    for (warning, reason, message) in failure.events() {
                        self.kubelet.event(pod, Some(name), warning, reason, message);
                    }
                    // The status shows the reason before the pause begins.
                    self.wake.notify_one();
                }
                let retry_at = failure.retry_at.or(now.checked_add(CONFIG_RETRY).ok());
                Ok(Some(retry_at.unwrap_or(Timestamp::MAX)))
            }
        }
    }

    async fn try_start(
        &self,
        pod: &Pod,
        actual: &Actual,
        spec: &Container,
        restart_count: u32,
        now: Timestamp,
    ) -> Result<(), NotStarted> {
        let kubelet = &self.kubelet;
        let parts = &kubelet.parts;
        let image = kubelet.ensure_image(pod, spec, &self.knowledge, now).await.map_err(|failure| match failure {
            ImageFailure::BackOff { message, until } => {
                NotStarted { reason: "ImagePullBackOff", message, event: "BackOff", retry_at: Some(until) }
            }
            ImageFailure::Failed { reason, message, until } => {
                NotStarted { reason, message, event: "Failed", retry_at: Some(until) }
            }
        })?;
        let sandbox = actual.sandbox().ok_or_else(|| NotStarted::config("the sandbox went away".into()))?;
        let objects = parts.objects.objects(pod).await.map_err(|error| NotStarted::config(error.to_string()))?;
        let services: Vec<_> = parts.services.as_ref().map(xebec_client::Cache::list).unwrap_or_default();
        let services: Vec<&Service> = services.iter().map(std::convert::AsRef::as_ref).collect();
        let ips = if pod::host_network(pod) { vec![kubelet.host.ip.clone()] } else { sandbox.ips.clone() };
        let facts = parts.settings.facts(ips);
        let environment = env::environment(pod, spec, &objects, &services, &facts)
            .map_err(|error| NotStarted::config(error.to_string()))?;
        let mounts = self.mounts.as_ref().ok_or_else(|| NotStarted::config("the volumes went away".into()))?;
        let inputs = ContainerInputs {
            settings: &parts.settings,
            pod,
            spec,
            restart_count,
            environment,
            mounts,
            image: &image,
            pod_ips: &facts.pod_ips,
            termination_file: kubelet.termination_file(pod::uid(pod), &spec.name, restart_count),
            real: parts.runtime.is_real(),
        };
        let config = config::container(&inputs).map_err(NotStarted::config)?;
        let failed = |reason: &'static str| {
            move |error: RuntimeError| NotStarted {
                reason,
                message: error.to_string(),
                event: "Failed",
                retry_at: None,
            }
        };
        let sandbox_config = config::sandbox(&parts.settings, pod, sandbox.attempt);
        let id = parts
            .runtime
            .create_container(&sandbox.id, config, sandbox_config)
            .await
            .map_err(failed("CreateContainerError"))?;
        let container = Some(spec.name.as_str());
        kubelet.event(pod, container, false, "Created", format!("Created container: {}", spec.name));
        // A container that fails to start is an exited one to the runtime, and is planned as such.
        parts.runtime.start_container(&id).await.map_err(failed("RunContainerError"))?;
        kubelet.event(pod, container, false, "Started", format!("Started container {}", spec.name));
        self.post_start(pod, spec, &id, sandbox.ips.first().map(String::as_str)).await;
        Ok(())
    }

    async fn post_start(&self, pod: &Pod, spec: &Container, id: &str, ip: Option<&str>) {
        let hook = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return };
        if let Err(error) = hooks::run(&self.kubelet, hook, Some(spec), id, ip, POST_START_MAX).await {
            let message = format!("PostStartHook failed: {error}");
            self.kubelet.event(pod, Some(&spec.name), true, "FailedPostStartHook", message);
            let grace = Duration::from_secs(u64::try_from(pod::grace_seconds(pod)).unwrap_or(0));
            if let Err(error) = self.kubelet.parts.runtime.stop_container(id, grace).await {
                tracing::warn!(container = spec.name, %error, "a container whose postStart failed still runs");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_an_image_name_the_reason_apart() {
        let told = |reason, event, message: &str| {
            NotStarted { reason, message: message.to_owned(), event, retry_at: None }.events()
        };
        assert_eq!(
            told("ImagePullBackOff", "BackOff", "Back-off pulling image \"x\""),
            [
                (false, "BackOff", "Back-off pulling image \"x\"".to_owned()),
                (true, "Failed", "Error: ImagePullBackOff".to_owned()),
            ]
        );
        assert_eq!(
            told("ErrImagePull", "Failed", "Failed to pull image \"x\": away")[1],
            (true, "Failed", "Error: ErrImagePull".to_owned())
        );
        assert_eq!(
            NotStarted::config("secret \"s\" not found".to_owned()).events(),
            [(true, "Failed", "Error: secret \"s\" not found".to_owned())]
        );
    }
}
