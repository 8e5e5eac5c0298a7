//! Observing a pod: the runtime's answer, with the termination messages containers left behind.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use xebec_node_core::{
    actual::{Actual, Container, State},
    pod,
};

use super::{Kubelet, logs::LogPaths};
use crate::runtime::RuntimeError;

/// Upstream's limits on termination messages.
const MESSAGE_BYTES_MAX: usize = 4096;
const MESSAGE_LOG_BYTES_MAX: usize = 2048;
const MESSAGE_LOG_LINES_MAX: usize = 80;

impl Kubelet {
    pub(super) async fn observe(&self, pod: &Pod) -> Result<Actual, RuntimeError> {
        let mut actual = self.parts.runtime.observe(pod::uid(pod)).await?;
        if self.parts.runtime.is_real() {
            for container in actual.containers.iter_mut().filter(|container| container.state == State::Exited) {
                if let Some(message) = self.termination_message(pod, container) {
                    container.message = message;
                }
            }
        }
        Ok(actual)
    }

    /// Where a container's termination message is on the host.
    pub(super) fn termination_file(&self, uid: &str, container: &str, restart_count: u32) -> PathBuf {
        self.parts.settings.pod_dir(uid).join("containers").join(container).join(format!("{restart_count}.termination"))
    }

    fn termination_message(&self, pod: &Pod, container: &Container) -> Option<String> {
        let path = self.termination_file(pod::uid(pod), &container.name, container.restart_count);
        let bytes = std::fs::read(path).unwrap_or_default();
        if !bytes.is_empty() {
            return Some(String::from_utf8_lossy(&bytes[..bytes.len().min(MESSAGE_BYTES_MAX)]).into_owned());
        }
        let spec = pod::container(pod, &container.name)?;
        let from_logs = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if !from_logs || container.exit_code == 0 {
            return None;
        }
        let paths = LogPaths::new(&self.parts.settings, pod, &container.name, container.restart_count);
        let text = super::logs::last_lines(&paths.current(), MESSAGE_LOG_LINES_MAX).ok()?;
        let cut = text.ceil_char_boundary(text.len().saturating_sub(MESSAGE_LOG_BYTES_MAX));
        Some(text[cut..].to_owned())
    }

    /// Takes away what the kubelet wrote for a pod that is deleted.
    pub(super) fn remove_traces(&self, pod: &Pod) {
        let settings = &self.parts.settings;
        let logs = settings.pod_logs_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod));
        for dir in [settings.pod_dir(pod::uid(pod)), logs] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(dir = %dir.display(), %error, "a deleted pod's directory is still there");
                }
                _ => {}
            }
        }
    }
}
