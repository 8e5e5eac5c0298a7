//! Lifecycle hooks: postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::{Kubelet, http_get};

/// Runs a hook, at most for `limit`. The error is what its event tells.
pub(super) async fn run(
    kubelet: &Kubelet,
    hook: &LifecycleHandler,
    spec: Option<&Container>,
    id: &str,
    pod_ip: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = kubelet.parts.runtime.exec(id, command, limit).await.map_err(|error| error.to_string())?;
        return if answer.exit_code == 0 { Ok(()) } else { Err(format!("command exited with {}", answer.exit_code)) };
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(seconds.min(limit)).await;
        return Ok(());
    }
    let (Some(get), Some(spec)) = (&hook.http_get, spec) else { return Ok(()) };
    let ip = pod_ip.map_or_else(|| kubelet.host.ip.clone(), str::to_owned);
    http_get::http_get(get, spec, &ip, limit).await
}
